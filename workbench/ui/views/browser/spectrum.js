// The spectrum: axes, density, sticks, and the class part taken away.

const KNOCK_SECONDS = 0.9
const LABEL_WIDTH = 40 // pixels that the number upon a stick takes

class Spectrum {
  constructor(pair) {
    Object.assign(this, {pair, ...pair.models.spectrum})
    this.removing = 0 // of requestAnimationFrame, for the knock-out
    this.removed = null // where the sticks of G are, knocked out so far
    this.actions = {spectrum: (_, {event}) => this.pick(event)}
  }

  render(changed) {
    const {state} = this.pair
    const reframed = changed.has("operator") || changed.has("scale")
    const picked = changed.has("selected_class") || changed.has("selected_outlier")
    if (reframed) this.drawFrame()
    if (state.operator !== "G") this.forgetKnockOut()
    if (changed.has("knockout") && state.operator === "G") this.removeSticks()
    else if (picked || reframed) this.drawSticks()
  }

  pick({x, y}) {
    if (this.pair.state.operator !== "G") return
    const [perX, perY] = pixelsPerUnit(this.figure)
    const {data} = this.sticks
    let [best, found] = [REACH, -1]
    for (let j = 0; j < this.pair.told.overlap.length; j++) {
      const above = Math.max(0, y - data.top[j]) * perY
      const far = Math.hypot((data.x[j] - x) * perX, above)
      if (far < best) [best, found] = [far, j]
    }
    if (found >= 0) this.pair.select({selected_outlier: found})
  }

  // Where a value stands on the eigenvalue axis; `_position` in spectrum.py is the same.
  place(value) {
    if (this.pair.state.scale === "linear") return value
    const {floor} = this
    return Math.sign(value) * (Math.log10(Math.max(Math.abs(value), 10 ** floor)) - floor)
  }

  drawFrame() {
    const {operator, scale} = this.pair.state
    const key = `${operator}/${scale}`
    const {x, y, x_label, y_label} = this.frames[key]
    const {ticker, format} = this.axes[scale]
    const {x_range, y_range, below, left} = this.figure
    x_range.setv({start: x[0], end: x[1], reset_start: x[0], reset_end: x[1]})
    y_range.setv({start: y[0], end: y[1], reset_start: y[0], reset_end: y[1]})
    below[0].setv({axis_label: x_label, ticker, formatter: format})
    left[0].axis_label = y_label
    this.curve.data = {...this.curves[key].data}
  }

  // Let the sticks travel to where they stand without the class part.
  removeSticks() {
    const {data} = this.eigenvalues.G
    const {knockout} = this.pair.state
    const goal = Array.from(data[knockout === "none" ? "value" : knockout])
    const start = this.removed ?? Array.from(data.value)
    const begin = performance.now()
    cancelAnimationFrame(this.removing)
    const tick = (now) => {
      const t = calm() ? 1 : clamp((now - begin) / 1000 / KNOCK_SECONDS)
      this.removed = goal.map((value, j) => mix(start[j], value, ease(t)))
      if (t === 1 && knockout === "none") this.removed = null
      if (this.pair.state.operator === "G") this.drawSticks()
      if (t < 1 && this.pair.onPage) this.removing = requestAnimationFrame(tick)
    }
    tick(begin)
  }

  forgetKnockOut() {
    cancelAnimationFrame(this.removing)
    this.removed = null
  }

  drawSticks() {
    const {state, told, selected} = this.pair
    const {operator, scale, knockout, selected_class: c, selected_outlier: picked} = state
    const stored = this.eigenvalues[operator].data
    const ofG = operator === "G"
    const values = (ofG && this.removed) || Array.from(stored.value)
    const knocked = ofG && knockout !== "none"
    const [bottom, top] = this.frames[`${operator}/${scale}`].y
    const height = (share) => bottom + share * (top - bottom)
    const linked = ofG && selected
    const most = Math.max(...told.overlap.map((row) => row[c] ?? 0), 1e-12)
    const thin = values.length > 40 ? 0.5 : 1
    const sticks = {x: [], low: [], high: [], base: [], top: [], color: [], alpha: [],
      width: [], size: [], label: [], name: [], told: []}
    values.forEach((value, j) => {
      const residual = knocked ? 0 : stored.residual[j]
      const outlier = stored.outlier[j] === 1
      const share = told.overlap[j]?.[c] ?? 0
      const weight = c >= 0 ? share / most : Number(j === picked)
      sticks.x.push(this.place(value))
      sticks.low.push(this.place(value - residual))
      sticks.high.push(this.place(value + residual))
      sticks.base.push(bottom)
      sticks.top.push(height(told.stickTop * (linked ? mix(0.75, 1.25, weight) : 1)))
      sticks.color.push(!linked ? told.colors.ink
        : c >= 0 ? told.classColors[c] : told.colors.accent)
      sticks.alpha.push(linked ? mix(0.15, 1, weight) : outlier ? 0.95 : 0.5)
      sticks.width.push(linked ? mix(1.2, 6, weight) : thin * (outlier ? 2.4 : 1.6))
      sticks.size.push(linked ? mix(4, 14, weight) : thin * (outlier ? 9 : 6))
      sticks.label.push(!linked || weight < 0.1 ? "" : c >= 0 ? percent(share) : String(j + 1))
      sticks.name.push(knocked ? `eigenvalue ${j + 1} of what is left` : stored.name[j])
      sticks.told.push(rounded(value, 3) + (residual > 0 ? ` ± ${rounded(residual, 3)}` : ""))
    })
    this.thinLabels(sticks)
    this.sticks.data = sticks
    const where = Array.from(stored.value, (value) => (knocked ? this.place(value) : NaN))
    this.ghosts.data = {x: where, base: sticks.base, top: sticks.top}
    this.drawClassPart(height, operator !== "H" && !knocked)
  }

  // Where two numbers would overlap, the taller stick keeps its own.
  thinLabels({x, top, label}) {
    const [perX, perY] = pixelsPerUnit(this.figure)
    const order = x.map((_, j) => j).filter((j) => label[j]).sort((a, b) => top[b] - top[a])
    const kept = []
    for (const j of order) {
      const free = kept.every((k) => Math.abs(x[j] - x[k]) * perX > LABEL_WIDTH
        || Math.abs(top[j] - top[k]) * perY > 16)
      if (free) kept.push(j)
      else label[j] = ""
    }
  }

  drawClassPart(height, shown) {
    const {class_part} = this
    const {value} = class_part.data
    class_part.data = {
      ...class_part.data,
      x: Array.from(value, (v) => (shown ? this.place(v) : NaN)),
      base: Array.from(value, () => height(0)),
      top: Array.from(value, () => height(this.pair.told.classPartTop)),
    }
  }
}
