// The spectrum: axes, density, sticks, the parts of G, and the class part taken away.

const KNOCK_SECONDS = 0.9
const LABEL_WIDTH = 40 // pixels that the number upon a stick takes

class Spectrum {
  constructor(pair) {
    Object.assign(this, {pair, ...pair.models.spectrum})
    this.removing = 0 // of requestAnimationFrame, for the knock-out
    this.removed = null // where the sticks of G are, knocked out so far
    this.actions = {
      spectrum: (_, {event}) => this.pick(event),
      cut: ({location}) => this.dragCut(location),
    }
  }

  render(changed) {
    const {state} = this.pair
    const any = (...names) => names.some((name) => changed.has(name))
    const reframed = any("operator", "scale")
    if (reframed) this.drawFrame()
    if (this.operator !== "G") this.forgetKnockOut()
    if (changed.has("knockout") && this.operator === "G") this.removeSticks()
    else if (reframed || any("selected_class", "selected_outlier", "num_outliers")) this.drawSticks()
    if (reframed || any("parts", "knockout")) this.drawParts()
    if (reframed || changed.has("num_outliers")) this.drawCut(reframed)
  }

  // Whose eigenvalues stand as sticks.
  get operator() {
    const {operator} = this.pair.state
    return operator === "all" ? "G" : operator
  }

  get frameKey() {
    const {operator, scale} = this.pair.state
    return `${operator}/${scale}`
  }

  repaint() {
    this.drawSticks()
  }

  pick({x, y}) {
    if (this.operator !== "G") return
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

  // Where a value stands on the eigenvalue axis; `position` in axis.py is the same.
  place(value) {
    if (this.pair.state.scale === "linear") return value
    const {floor} = this
    return Math.sign(value) * (Math.log10(Math.max(Math.abs(value), 10 ** floor)) - floor)
  }

  drawFrame() {
    const {operator, scale} = this.pair.state
    const {x, y, x_label, y_label} = this.frames[this.frameKey]
    const {ticker, format} = this.axes[scale]
    const {x_range, y_range, below, left} = this.figure
    x_range.setv({start: x[0], end: x[1], reset_start: x[0], reset_end: x[1]})
    y_range.setv({start: y[0], end: y[1], reset_start: y[0], reset_end: y[1]})
    below[0].setv({axis_label: x_label, ticker, formatter: format})
    left[0].axis_label = y_label
    const {x: grid, y: density, low, high} = this.curves[`${this.operator}/${scale}`].data
    this.curve.data = {x: grid, y: density, low, high, base: new Float32Array(grid.length).fill(y[0])}
    for (const [name, source] of Object.entries(this.beside)) {
      const {x, y} = operator === "all" ? this.curves[`${name}/${scale}`].data : {x: [], y: []}
      source.data = {x, y}
    }
    if (this.removed !== null && this.operator === "G") this.drawDensity()
  }

  // Let the sticks travel to where they stand without the class part.
  removeSticks() {
    const {data} = this.eigenvalues.G
    const {knockout} = this.pair.state
    const start = this.removed ?? data.value
    const begin = performance.now()
    cancelAnimationFrame(this.removing)
    const tick = (now) => {
      const goal = data[knockout === "none" ? "value" : knockout] // the film may move it
      const t = calm() ? 1 : clamp((now - begin) / 1000 / KNOCK_SECONDS)
      this.removed = Float64Array.from(goal, (value, j) => mix(start[j], value, ease(t)))
      if (t === 1 && knockout === "none") this.removed = null
      if (this.operator === "G") {
        this.drawSticks()
        this.drawDensity()
      }
      if (t < 1 && this.pair.onPage) this.removing = requestAnimationFrame(tick)
    }
    tick(begin)
  }

  forgetKnockOut() {
    cancelAnimationFrame(this.removing)
    this.removed = null
  }

  // Where every eigenvalue is there, the bump of each stick moves along with it.
  drawDensity() {
    const {scale} = this.pair.state
    const {x, y, rest} = this.curves[`G/${scale}`].data
    if (rest === undefined) return
    const {width, bump, lowest} = this.frames[`G/${scale}`]
    const places = Array.from(this.removed ?? this.eigenvalues.G.data.value, (v) => this.place(v))
    const density = Float32Array.from(x, (at, n) => {
      if (this.removed === null || isNaN(rest[n])) return y[n]
      let total = rest[n]
      for (const place of places) {
        const z = (at - place) / width
        if (Math.abs(z) < 8) total += bump * Math.exp(-0.5 * z * z)
      }
      return Math.log10(Math.max(total, lowest))
    })
    this.curve.data = {...this.curve.data, y: density, low: density, high: density}
  }

  drawSticks() {
    const {state, told, selected, numOutliers} = this.pair
    const {knockout, selected_class: c, selected_outlier: picked} = state
    const stored = this.eigenvalues[this.operator].data
    const ofG = this.operator === "G"
    const values = (ofG && this.removed) || stored.value
    const knocked = ofG && knockout !== "none"
    const [bottom, top] = this.frames[this.frameKey].y
    const height = (share) => bottom + share * (top - bottom)
    const linked = ofG && selected
    const most = Math.max(...told.overlap.map((row) => row[c] ?? 0), 1e-12)
    const thin = values.length > 40 ? 0.5 : 1
    const sticks = {x: [], low: [], high: [], base: [], top: [], color: [], alpha: [],
      width: [], size: [], label: [], name: [], told: []}
    values.forEach((value, j) => {
      const residual = knocked ? 0 : stored.residual[j]
      const outlier = ofG && j < numOutliers
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
      sticks.width.push(told.marks * (linked ? mix(1.2, 6, weight) : thin * (outlier ? 2.4 : 1.6)))
      sticks.size.push(told.marks * (linked ? mix(4, 14, weight) : thin * (outlier ? 9 : 6)))
      sticks.label.push(!linked || weight < 0.1 ? "" : c >= 0 ? percent(share) : String(j + 1))
      sticks.name.push(knocked ? `eigenvalue ${j + 1} of what is left`
        : outlier ? `outlier ${j + 1} of G` : stored.name[j])
      sticks.told.push(withError(value, residual))
    })
    this.thinLabels(sticks)
    this.sticks.data = sticks
    const where = Array.from(stored.value, (value) => (knocked ? this.place(value) : NaN))
    this.ghosts.data = {x: where, base: sticks.base, top: sticks.top}
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

  // The parts of G stand upon the spectra that hold them; without it, so does the class part.
  drawParts() {
    const {state, told} = this.pair
    const wanted = state.parts.split(",")
    const [bottom, top] = this.frames[this.frameKey].y
    for (const [role, source] of Object.entries(this.parts)) {
      const shown = wanted.includes(role) && state.operator !== "H"
        && !(role === "class" && state.knockout !== "none")
      const {data} = source
      const least = state.scale === "log" ? 10 ** this.floor : 0
      source.data = {
        ...data,
        x: Array.from(data.value, (v) => (shown && v >= least ? this.place(v) : NaN)),
        base: Array.from(data.value, () => bottom),
        top: Array.from(data.value, () => bottom + told.partTops[role] * (top - bottom)),
      }
    }
  }

  // Between the last outlier and the next eigenvalue; `_cut` in spectrum.py is the same.
  cutAt(count) {
    const {value} = this.eigenvalues.G.data
    if (count === 0) return 1.02 * value[0]
    return count >= value.length ? 0 : (value[count - 1] + value[count]) / 2
  }

  // How many eigenvalues of G stand right of a place upon the axis.
  countAbove(location) {
    const {value} = this.eigenvalues.G.data
    const count = value.findIndex((v) => this.place(v) <= location)
    return count < 0 ? value.length - 1 : count
  }

  drawCut(reframed) {
    const {numOutliers} = this.pair
    this.cut.visible = this.operator === "G"
    if (!reframed && this.countAbove(this.cut.location) === numOutliers) return
    this.drawing = true
    this.cut.location = this.place(this.cutAt(numOutliers))
    this.drawing = false
  }

  dragCut(location) {
    if (!this.drawing && this.operator === "G") this.pair.countOutliers(this.countAbove(location))
  }
}
