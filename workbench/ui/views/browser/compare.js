// A pinned study: dashed outlines behind the one that is drawn, or a pair of its own.

class Compare {
  constructor(pair) {
    Object.assign(this, {pair, models: pair.models.compare})
    this.actions = {
      compare: ({active}) => pair.state.setv({compare: pair.told.compareModes[active]}),
      plane: () => {}, // a tap there asks for nothing
      plot: () => {},
    }
    if (this.models === undefined) return
    this.curves = Object.fromEntries(
      Object.entries(this.models.curves).map(([key, curve]) => [key, gridded(curve)]))
  }

  // The axes hold both studies, which Python drew one by one.
  appear() {
    if (this.models === undefined) return
    const {spectrum} = this.pair.parts
    spectrum.drawFrame()
    spectrum.drawSticks()
    spectrum.drawParts()
    this.drawSpectrum()
  }

  render(changed) {
    if (this.models === undefined) return
    if (changed.has("compare")) this.show()
    if (changed.has("selected_class") || changed.has("selected_outlier")) this.fade()
    this.drawSpectrum()
  }

  show() {
    const {ghosts, mode, row} = this.models
    const beside = this.pair.state.compare === "beside"
    for (const ghost of ghosts) ghost.visible = !beside
    row.visible = beside
    mode.active = this.pair.told.compareModes.indexOf(this.pair.state.compare)
  }

  dress() {
    if (this.models === undefined) return
    const {labels, titles} = this.pair.told
    const {mode} = this.models
    labelGroup(this.pair.element(mode), mode, labels.compare, titles.compare)
  }

  // What is selected stands out in both studies, class by class.
  fade() {
    const weights = this.pair.classWeights()
    for (const source of this.models.marks) {
      const {c, alpha} = source.data
      for (let row = 0; row < c.length; row++) alpha[row] = mix(FADED, 1, weights[c[row]])
      source.change.emit()
    }
  }

  drawSpectrum() {
    if (this.models === undefined) return
    const {sticks, curve, eigenvalues, overlap, plot} = this.models
    const {state, parts: {spectrum}, models} = this.pair
    const {operator, scale, selected_class: c} = state
    const shown = operator === "all" ? "G" : operator
    const {value = [], residual = [], name = []} = eigenvalues[shown] ?? {}
    const values = Array.from(value)
    const [bottom, top] = spectrum.frames[spectrum.frameKey].y
    const most = Math.max(...overlap.map((row) => row[c] ?? 0), 1e-12)
    const linked = shown === "G" && c >= 0 && overlap.length > 0
    sticks.data = {
      x: values.map((value) => spectrum.place(value)),
      base: values.map(() => bottom),
      top: values.map(() => mix(bottom, top, this.pair.told.ghostTop)),
      alpha: values.map((_, j) => (linked ? mix(0.15, 1, (overlap[j]?.[c] ?? 0) / most) : 0.9)),
      name,
      told: values.map((value, j) => withError(value, residual[j])),
    }
    const {x, y} = this.curves[`${shown}/${scale}`]
    curve.data = {x, y}
    const {below, left} = models.spectrum.figure
    plot.below[0].setv({axis_label: below[0].axis_label, ticker: below[0].ticker, formatter: below[0].formatter})
    plot.left[0].axis_label = left[0].axis_label
  }
}
