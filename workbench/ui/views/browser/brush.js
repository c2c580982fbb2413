// Paints the marks of one level onto Bokeh's canvas, thousands of them in each frame.
//
// Bokeh looks up colour, outline and shape of each mark anew, and indexes all of them
// whenever one has moved: 20 ms for 5,000 gradients, a frame being 33. Here they are read
// from the columns of the source as they are, and put upon a sheet of pixels (sheet.js).
// Only how Bokeh's glyph paints itself is replaced; hovering and picking stay Bokeh's,
// which is told of the new places when the marks are at rest (`tell`).

import { clamp } from "./numbers.js"
import { Sheet, trace } from "./sheet.js"

/** @import {Context, Layer} from "./bokeh.js" */
/** @import {Marks, Source} from "./types.js" */

export class Brush {
  threads = 0 // how visible the lines from the marks to their means are
  known = "" // the scales for which Bokeh knows the places of the marks

  /**
   * @param {Record<string, string>} shapes Marker -> its outline.
   * @param {Source<Marks>} source
   * @param {Layer} layer
   */
  constructor(shapes, source, layer) {
    this.shapes = shapes
    this.source = source
    this.layer = layer
    this.sheet = new Sheet()
    const many = source.name === "marks 0"
    layer.paintMarks((ctx, bokehs) => {
      if (this.threads > 0) this.paintThreads(lines(ctx))
      if (!many) bokehs()
      else if (ctx instanceof CanvasRenderingContext2D) this.paintPixels(ctx)
      else this.paintShapes(lines(ctx))
    })
    if (many) this.skip()
  }

  // Where Bokeh knows the places already, or need not while they change, paint alone.
  skip() {
    this.layer.paintAll((ctx, bokehs) => {
      const scales = this.layer.scales.join()
      const known = scales === this.known
      this.known = scales
      if (!known || !(ctx instanceof CanvasRenderingContext2D)) return bokehs()
      if (this.threads > 0) this.paintThreads(ctx)
      this.paintPixels(ctx)
    })
  }

  // Let Bokeh know where the marks are now.
  tell() {
    this.known = ""
    this.source.change.emit()
  }

  repaint() {
    this.layer.request()
  }

  /** @param {CanvasRenderingContext2D} ctx */
  paintPixels(ctx) {
    const { x, y, c, color, marker, fill_alpha: alpha } = this.source.data
    const { a: ratio, e: left, f: top } = ctx.getTransform()
    const [ox, fx, oy, fy] = this.layer.scales
    const size = this.layer.size * ratio
    const { box } = this.layer
    const [dx, dy] = [Math.floor(box.x * ratio), Math.floor(box.y * ratio)]
    const { sheet } = this
    sheet.clear(Math.ceil(box.width * ratio) + 1, Math.ceil(box.height * ratio) + 1)
    /** @type {[string, number[]][]} */
    const looks = [] // by class: looked up once a painting
    for (let row = 0; row < c.length; row++) {
      if (!(alpha[row] > 0.004)) continue
      looks[c[row]] ??= [this.shapes[marker[row]], channels(color[row])]
      const [shape, inks] = looks[c[row]]
      const across = (ox + fx * x[row]) * ratio + left - dx
      const down = (oy + fy * y[row]) * ratio + top - dy
      sheet.put(across, down, shape, size, inks, alpha[row])
    }
    ctx.save()
    ctx.setTransform(1, 0, 0, 1, 0, 0)
    ctx.drawImage(sheet.picture(), dx, dy)
    ctx.restore()
  }

  /**
   * The same for a file of shapes instead of pixels.
   * @param {CanvasRenderingContext2D} ctx
   */
  paintShapes(ctx) {
    const { x, y, c, color, marker, fill_alpha: alpha } = this.source.data
    const [ox, fx, oy, fy] = this.layer.scales
    const { size } = this.layer
    for (let row = 0; row < c.length; row++) {
      if (!(alpha[row] > 0.004)) continue
      ctx.save()
      ctx.translate(ox + fx * x[row], oy + fy * y[row])
      ctx.scale(size, size)
      trace(ctx, this.shapes[marker[row]])
      ctx.fillStyle = color[row]
      ctx.globalAlpha = alpha[row]
      ctx.fill()
      ctx.restore()
    }
  }

  /**
   * From where each mark was to its mean; one path a class.
   * @param {CanvasRenderingContext2D} ctx
   */
  paintThreads(ctx) {
    const { data } = this.source
    const [ox, fx, oy, fy] = this.layer.scales
    const { home_x, home_y, target_x, target_y, c, stays, fill_alpha } = data
    /** @type {Path2D[]} */
    const paths = []
    /** @type {number[]} */
    const rows = []
    for (let row = 0; row < c.length; row++) {
      if (stays[row] === 1) continue
      if (paths[c[row]] === undefined) {
        paths[c[row]] = new Path2D()
        rows[c[row]] = row
      }
      paths[c[row]].moveTo(ox + fx * home_x[row], oy + fy * home_y[row])
      paths[c[row]].lineTo(ox + fx * target_x[row], oy + fy * target_y[row])
    }
    ctx.save()
    ctx.lineWidth = 1
    paths.forEach((path, n) => {
      ctx.strokeStyle = data.color[rows[n]]
      ctx.globalAlpha = this.threads * clamp(fill_alpha[rows[n]], 0.1, 1)
      ctx.stroke(path)
    })
    ctx.restore()
  }
}

/**
 * Bokeh's context of an SVG answers as that of a canvas does.
 * @param {Context} ctx
 */
const lines = (ctx) => /** @type {CanvasRenderingContext2D} */ (ctx)

/**
 * Red, green and blue of a colour of the theme, which is written #rrggbb.
 * @param {string} color
 */
export const channels = (color) => [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16))
