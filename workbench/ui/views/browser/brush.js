// Paints the marks of one level onto Bokeh's canvas, thousands of them in each frame.
//
// Bokeh looks up colour, outline and shape of each mark anew, and indexes all of them
// whenever one has moved: 20 ms for 5,000 gradients, a frame being 33. Here a mark is a
// stamp, drawn once for each class, and read from the columns of the source as they are.
// Only how Bokeh's glyph paints itself is replaced; hovering and picking stay Bokeh's,
// which is told of the new places when the marks are at rest.

class Brush {
  constructor(pair, source, view) {
    Object.assign(this, {source, glyph: view.glyph, renderer: view, plot: view.plot_view})
    this.shapes = pair.told.markers
    this.stamps = new Map()
    this.threads = 0 // how visible the lines from the marks to their means are
    this.size = this.glyph.model.size
    const paint = this.glyph._paint.bind(this.glyph)
    const stamped = this.source.name === "marks 0"
    this.glyph._paint = (ctx, indices, more) => {
      if (more !== undefined || indices.length === 0) return paint(ctx, indices, more)
      if (this.threads > 0) this.paintThreads(ctx)
      return stamped ? this.paintStamps(ctx) : paint(ctx, indices)
    }
  }

  // Ask for a new painting without telling Bokeh that anything has moved.
  repaint() {
    this.plot.request_paint(this.renderer)
  }

  // Offset and factor from data to the canvas, which are linear here.
  get scales() {
    const {xscale, yscale} = this.renderer
    const [x, y] = [xscale.compute(0), yscale.compute(0)]
    return [x, xscale.compute(1) - x, y, yscale.compute(1) - y]
  }

  paintStamps(ctx) {
    const {data} = this.source
    const [ox, fx, oy, fy] = this.scales
    const {x, y, c, fill_alpha: alpha} = data
    const size = this.glyph.model.size.value
    const ratio = Math.max(1, Math.ceil(ctx.getTransform().a))
    const stamps = [] // by class: looked up once a painting
    ctx.save()
    let last = -1
    for (let row = 0; row < c.length; row++) {
      const opacity = alpha[row]
      if (!(opacity > 0.004)) continue
      const stamp = (stamps[c[row]] ??= this.stamp(data.color[row], data.marker[row], size, ratio))
      if (opacity !== last) ctx.globalAlpha = last = opacity
      const {width} = stamp
      const side = width / ratio
      ctx.drawImage(stamp, ox + fx * x[row] - side / 2, oy + fy * y[row] - side / 2, side, side)
    }
    ctx.restore()
  }

  // One mark, as a picture.
  stamp(color, marker, size, ratio) {
    const key = [color, marker, size, ratio].join()
    let stamp = this.stamps.get(key)
    if (stamp !== undefined) return stamp
    const side = Math.ceil(size * ratio) + 2
    const canvas = new OffscreenCanvas(side, side)
    const ctx = canvas.getContext("2d")
    const shape = this.shapes[marker] ?? "circle(50%)"
    const numbers = shape.match(/[\d.]+/g).map((percent) => Number(percent) / 100)
    ctx.fillStyle = color
    ctx.translate(1, 1)
    ctx.scale(size * ratio, size * ratio)
    ctx.beginPath()
    if (shape.startsWith("circle")) ctx.arc(0.5, 0.5, 0.5, 0, 7)
    else if (shape.startsWith("inset")) ctx.rect(numbers[0], numbers[0], 1 - 2 * numbers[0], 1 - 2 * numbers[0])
    else for (let n = 0; n < numbers.length; n += 2) ctx.lineTo(numbers[n], numbers[n + 1])
    ctx.fill()
    stamp = canvas.transferToImageBitmap()
    this.stamps.set(key, stamp)
    return stamp
  }

  // From where each mark was to its mean; one path a class.
  paintThreads(ctx) {
    const {data} = this.source
    const [ox, fx, oy, fy] = this.scales
    const {home_x, home_y, target_x, target_y, c, stays, fill_alpha} = data
    const paths = []
    const rows = []
    for (let row = 0; row < c.length; row++) {
      if (stays[row] === 1) continue
      if (paths[c[row]] === undefined) rows[c[row]] = row
      const path = (paths[c[row]] ??= new Path2D())
      path.moveTo(ox + fx * home_x[row], oy + fy * home_y[row])
      path.lineTo(ox + fx * target_x[row], oy + fy * target_y[row])
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
