// Paints the marks of one level onto Bokeh's canvas, thousands of them in each frame.
//
// Bokeh looks up colour, outline and shape of each mark anew, and indexes all of them
// whenever one has moved: 20 ms for 5,000 gradients, a frame being 33. Here they are read
// from the columns of the source as they are, and put upon a sheet of pixels (sheet.js).
// Only how Bokeh's glyph paints itself is replaced; hovering and picking stay Bokeh's,
// which is told of the new places when the marks are at rest (`tell`).

class Brush {
  constructor(pair, source, view) {
    Object.assign(this, {source, glyph: view.glyph, renderer: view, plot: view.plot_view})
    this.shapes = pair.told.markers
    this.sheet = new Sheet()
    this.threads = 0 // how visible the lines from the marks to their means are
    const paint = this.glyph._paint.bind(this.glyph)
    const many = this.source.name === "marks 0"
    this.glyph._paint = (ctx, indices, more) => {
      if (more !== undefined || indices.length === 0) return paint(ctx, indices, more)
      if (this.threads > 0) this.paintThreads(ctx)
      if (!many) return paint(ctx, indices)
      return ctx instanceof CanvasRenderingContext2D ? this.paintPixels(ctx) : this.paintShapes(ctx)
    }
    if (many) this.skip()
  }

  // Where Bokeh knows the places already, or need not while they change, paint alone.
  skip() {
    const paint = this.renderer._paint.bind(this.renderer)
    this.renderer._paint = (ctx) => {
      const scales = this.scales.join()
      const known = scales === this.known
      this.known = scales
      if (!known || !(ctx instanceof CanvasRenderingContext2D)) return paint(ctx)
      if (this.threads > 0) this.paintThreads(ctx)
      this.paintPixels(ctx)
    }
  }

  // Let Bokeh know where the marks are now.
  tell() {
    this.known = ""
    this.source.change.emit()
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

  paintPixels(ctx) {
    const {x, y, c, color, marker, fill_alpha: alpha} = this.source.data
    const {a: ratio, e: left, f: top} = ctx.getTransform()
    const [ox, fx, oy, fy] = this.scales
    const size = this.glyph.model.size.value * ratio
    const box = this.plot.frame.bbox
    const [dx, dy] = [Math.floor(box.x * ratio), Math.floor(box.y * ratio)]
    const {sheet} = this
    sheet.clear(Math.ceil(box.width * ratio) + 1, Math.ceil(box.height * ratio) + 1)
    const looks = [] // by class: looked up once a painting
    for (let row = 0; row < c.length; row++) {
      if (!(alpha[row] > 0.004)) continue
      const [shape, inks] = (looks[c[row]] ??= [this.shapes[marker[row]], channels(color[row])])
      sheet.put((ox + fx * x[row]) * ratio + left - dx, (oy + fy * y[row]) * ratio + top - dy, shape, size, inks, alpha[row])
    }
    ctx.save()
    ctx.setTransform(1, 0, 0, 1, 0, 0)
    ctx.drawImage(sheet.picture(), dx, dy)
    ctx.restore()
  }

  // The same for a file of shapes instead of pixels.
  paintShapes(ctx) {
    const {x, y, c, color, marker, fill_alpha: alpha} = this.source.data
    const [ox, fx, oy, fy] = this.scales
    const size = this.glyph.model.size.value
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

// Red, green and blue of a colour of the theme, which is written #rrggbb.
const channels = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16))
