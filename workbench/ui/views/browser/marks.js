// The embedding: each level's marks, between where they are and where their mean is.

const SOLID = [[0.8, 0.8], [0.1, 0.85], [0.1, 0.9], [0, 0]] // fill: awaited, reached
const OUTLINE = [[0, 0], [0.75, 1], [0.9, 1], [0.6, 1]] // outline: awaited, reached

class Marks {
  constructor(pair) {
    Object.assign(this, {pair, ...pair.models.embedding})
    this.drawn = [] // what each level was last drawn from
    this.actions = {
      embedding: (_, {event}) => (event ? this.pick(event) : pair.appear()),
    }
  }

  render(changed) {
    if (changed.has("selected_class") || changed.has("selected_outlier")) this.draw()
  }

  pick({x, y}) {
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

  draw() {
    this.sources.forEach((_, level) => this.drawLevel(level))
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
    this.drawn[level] = drawn
    view.visible = moved < 1
    const leaving = 1 - clamp((moved - 0.9) / 0.1)
    const solid = mix(...SOLID[level], reached) * leaving
    const outline = mix(...OUTLINE[level], reached) * leaving
    const weights = this.pair.classWeights()
    const {data} = source
    for (let row = 0; row < data.c.length; row++) {
      const c = data.c[row]
      const stays = data.stays[row] === 1 // it has no part in the next average
      const way = stays ? 0 : moved
      const weight = c < 0 ? (selected ? 0.3 : 1) : mix(FADED, 1, weights[c])
      const alpha = stays ? weight * (1 - moved) : weight
      data.x[row] = mix(data.home_x[row], data.target_x[row], way)
      data.y[row] = mix(data.home_y[row], data.target_y[row], way)
      data.fill_alpha[row] = solid * alpha
      data.line_alpha[row] = outline * alpha
    }
    source.change.emit()
  }
}
