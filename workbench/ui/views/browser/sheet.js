// A sheet of pixels that thousands of small marks are put upon, in plain numbers.
//
// The browser's own canvas keeps each mark as a command and carries it out later: 30 ms
// for 5,000 of them. Here a shape is traced once, at each quarter of a pixel, and then
// only blended; the canvas gets one picture.

const PHASES = 4 // places of a mark between two pixels, each way

/** @typedef {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} Canvas2D */

/**
 * The outline of a marker, of side 1 around the origin.
 * @param {Canvas2D} ctx
 * @param {string} shape Circle, inset or polygon of CSS.
 */
export const trace = (ctx, shape = "circle(50%)") => {
  const numbers = (shape.match(/[\d.]+/g) ?? []).map((percent) => Number(percent) / 100)
  ctx.beginPath()
  if (shape.startsWith("circle")) ctx.arc(0, 0, 0.5, 0, 2 * Math.PI)
  else if (shape.startsWith("inset"))
    ctx.rect(numbers[0] - 0.5, numbers[0] - 0.5, 1 - 2 * numbers[0], 1 - 2 * numbers[0])
  else for (let n = 0; n < numbers.length; n += 2) ctx.lineTo(numbers[n] - 0.5, numbers[n + 1] - 0.5)
  ctx.closePath()
}

/**
 * @param {OffscreenCanvas} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 */
const paper = (canvas, settings) =>
  /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", settings))

export class Sheet {
  /** @type {Map<string, {side: number, masks: Float32Array[]}>} */
  masks = new Map()
  canvas = new OffscreenCanvas(1, 1)
  image = new ImageData(1, 1)
  ctx = paper(this.canvas)

  /**
   * Begin anew, empty.
   * @param {number} width
   * @param {number} height
   */
  clear(width, height) {
    const { canvas } = this
    if (canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height })
      this.image = new ImageData(width, height)
    }
    this.image.data.fill(0)
  }

  /**
   * Blend a mark upon what is there. Until `picture`, colours are held multiplied with
   * their opacity.
   * @param {number} x Of its centre.
   * @param {number} y
   * @param {string} shape
   * @param {number} size Its width.
   * @param {number[]} color Red, green and blue.
   * @param {number} opacity
   */
  put(x, y, shape, size, [red, green, blue], opacity) {
    const [column, row] = [Math.round((x - size / 2) * PHASES), Math.round((y - size / 2) * PHASES)]
    const [left, top] = [Math.floor(column / PHASES), Math.floor(row / PHASES)]
    const { width, height, data } = this.image
    const { side, masks } = this.shape(shape, size)
    if (!(left > -side && top > -side && left < width && top < height)) return // or no number
    const mask = masks[(row - top * PHASES) * PHASES + column - left * PHASES]
    const [first, last] = [Math.max(0, -left), Math.min(side, width - left)]
    for (let down = Math.max(0, -top); down < Math.min(side, height - top); down++) {
      let at = 4 * ((top + down) * width + left + first)
      for (let n = down * side + first; n < down * side + last; n++, at += 4) {
        const cover = mask[n] * opacity
        if (cover === 0) continue
        const stays = 1 - cover
        data[at] = data[at] * stays + red * cover
        data[at + 1] = data[at + 1] * stays + green * cover
        data[at + 2] = data[at + 2] * stays + blue * cover
        data[at + 3] = data[at + 3] * stays + 255 * cover
      }
    }
  }

  /**
   * How much of each pixel a mark covers, from each of the places between two pixels.
   * @param {string} shape
   * @param {number} size
   */
  shape(shape, size) {
    const key = `${shape} ${size}`
    const known = this.masks.get(key)
    if (known !== undefined) return known
    const side = Math.ceil(size) + 1
    const ctx = paper(new OffscreenCanvas(side, side), { willReadFrequently: true })
    const masks = Array.from({ length: PHASES ** 2 }, (_, phase) => {
      const [x, y] = [phase % PHASES, Math.floor(phase / PHASES)].map((part) => part / PHASES + size / 2)
      ctx.setTransform(1, 0, 0, 1, 0, 0)
      ctx.clearRect(0, 0, side, side)
      ctx.setTransform(size, 0, 0, size, x, y)
      trace(ctx, shape)
      ctx.fill()
      const { data } = ctx.getImageData(0, 0, side, side)
      return Float32Array.from({ length: side ** 2 }, (_, n) => data[4 * n + 3] / 255)
    })
    const made = { side, masks }
    this.masks.set(key, made)
    return made
  }

  /** What was put, as a picture that a canvas draws. */
  picture() {
    const { data } = this.image
    const words = new Uint32Array(data.buffer)
    for (let n = 0; n < words.length; n++) {
      if (words[n] === 0) continue
      const at = 4 * n
      const opacity = data[at + 3]
      if (opacity === 255 || opacity === 0) continue
      const by = 255 / opacity
      data[at] *= by
      data[at + 1] *= by
      data[at + 2] *= by
    }
    this.ctx.putImageData(this.image, 0, 0)
    return this.canvas
  }
}
