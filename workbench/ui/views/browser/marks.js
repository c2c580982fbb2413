// The embedding: each level's marks, between where they are and where their mean is.

const SOLID = [[0.8, 0.8], [0.1, 0.85], [0.1, 0.9], [0, 0]] // fill: awaited, reached
const THREAD = 0.35 // how visible the lines to the means are
const OUTLINE = [[0, 0], [0.75, 1], [0.9, 1], [0.6, 1]] // outline: awaited, reached

const INDICES = ["", "i", "c′", "c"] // averaged over on the way to each level

class Marks {
  constructor(pair) {
    Object.assign(this, {pair, ...pair.models.embedding})
    this.drawn = [] // what each level was last drawn from
    this.placed = [] // how far on its way it was then
    this.actions = {
      embedding: (_, {event}) => (event ? this.pick(event) : pair.appear()),
    }
  }

  render(changed) {
    if (changed.has("selected_class") || changed.has("selected_outlier")) this.draw()
  }

  pick({x, y}) {
    this.pair.element(this.figure)?.host.focus({preventScroll: true}) // for the keyboard
    const [perX, perY] = pixelsPerUnit(this.figure)
    let [best, found] = [REACH, -1]
    this.sources.slice(0, 3).forEach(({data}, level) => {
      const view = this.renderers[level]
      if (!view.visible) return
      const radius = view.glyph.size.value / 2
      for (let row = 0; row < data.c.length; row++) {
        const far = Math.hypot((data.x[row] - x) * perX, (data.y[row] - y) * perY) - radius
        if (far < best) [best, found] = [far, data.c[row]]
      }
    })
    if (found >= 0) this.pair.select({selected_class: found})
  }

  // Name the index that is averaged over, on the way to a level; below 0: none is.
  nameIndex(level) {
    this.averaged.text = level > 0 ? `averaging over ${INDICES[level]}` : ""
  }

  draw() {
    this.sources.forEach((_, level) => this.drawLevel(level))
  }

  // What paints a level, from when it is on the page.
  brush(level) {
    this.brushes ??= []
    const brush = this.brushes[level]
    if (brush?.plot.el.isConnected) return brush
    const view = Bokeh.index.find_one(this.figure)?.views.find_one(this.renderers[level])
    if (view) this.brushes[level] = new Brush(this.pair, this.sources[level], view)
    return this.brushes[level]
  }

  drawLevel(level) {
    const {selected} = this.pair
    const {position} = this.pair.parts.stepper
    const {selected_class, selected_outlier} = this.pair.state
    const source = this.sources[level]
    const view = this.renderers[level]
    const moved = level === 3 ? 0 : ease(clamp(position - level))
    const reached = level === 0 ? 1 : ease(clamp(position - level + 1))
    const drawn = [moved, reached, selected_class, selected_outlier].join()
    if (drawn === this.drawn[level]) return
    const elsewhere = this.drawn[level] === undefined || this.placed[level] !== moved
    this.drawn[level] = drawn
    this.placed[level] = moved
    view.visible = moved < 1
    const leaving = 1 - clamp((moved - 0.9) / 0.1)
    const solid = mix(...SOLID[level], reached) * leaving
    const outline = mix(...OUTLINE[level], reached) * leaving
    const weights = Float64Array.from(this.pair.classWeights(), (weight) => mix(FADED, 1, weight))
    const {x, y, home_x, home_y, target_x, target_y, c, stays, fill_alpha, line_alpha} = source.data
    const rest = 1 - moved
    const overall = selected ? 0.3 : 1
    for (let row = 0; row < c.length; row++) {
      const staying = stays[row] === 1 // it has no part in the next average
      const weight = c[row] < 0 ? overall : weights[c[row]]
      const alpha = staying ? weight * rest : weight
      const way = staying ? 0 : moved
      x[row] = home_x[row] * (1 - way) + target_x[row] * way
      y[row] = home_y[row] * (1 - way) + target_y[row] * way
      fill_alpha[row] = solid * alpha
      line_alpha[row] = outline * alpha
    }
    this.paint(level, moved, elsewhere)
  }

  // Bokeh is told of new places when the marks are at rest, to find the one that is pointed at.
  paint(level, moved, elsewhere) {
    const brush = this.brush(level)
    if (brush) brush.threads = THREAD * Math.min(1, 8 * moved, 3 * (1 - moved))
    const resting = Number.isInteger(moved) && !this.pair.parts.film.moving
    if (brush === undefined) this.sources[level].change.emit()
    else if (level > 0 || (resting && elsewhere)) brush.tell()
    else brush.repaint()
  }
}
