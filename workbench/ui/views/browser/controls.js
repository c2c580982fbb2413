// Buttons and switches: what they ask for, what they show, and the texts beside them.

class Controls {
  constructor(pair) {
    Object.assign(this, {pair, models: pair.models.controls})
    const {state, told} = pair
    this.actions = {
      classes: ({active}) => this.toggled(active, "selected_class"),
      outliers: ({active}) => this.toggled(active, "selected_outlier"),
      clear: () => pair.select({}),
      operator: ({labels, active}) => this.operate(labels[active]),
      scale: ({active}) => state.setv({scale: told.scales[active]}),
      parts: ({active}) => state.setv({parts: active.map((n) => told.parts[n]).join(",")}),
      count: ({value}) => pair.countOutliers(value),
      automatic: () => pair.countOutliers(told.automatic),
      knockout: ({active}) => this.knockOut(told.knockouts[active]),
    }
  }

  // A group of buttons holds what was and what is new; the new one counts.
  toggled(active, what) {
    const was = this.pair.state[what]
    const fresh = active.filter((index) => index !== was)
    if (fresh.length > 0) this.pair.select({[what]: fresh[0]})
    else if (was >= 0 && !active.includes(was)) this.pair.select({})
  }

  operate(operator) {
    const {state} = this.pair
    const ofG = operator === "G" || operator === "all"
    state.setv({operator, knockout: ofG ? state.knockout : "none"})
  }

  knockOut(knockout) {
    const {state} = this.pair
    const ofG = knockout === "none" || state.operator === "all"
    state.setv({knockout, operator: ofG ? state.operator : "G"})
  }

  render() {
    const {models, pair} = this
    const {state, told, selected, numOutliers} = pair
    models.classes.active = [state.selected_class].filter((c) => c >= 0)
    models.outliers.active = [state.selected_outlier].filter((j) => j >= 0)
    pair.disable(models.clear, !selected)
    models.operator.active = models.operator.labels.indexOf(state.operator)
    models.scale.active = told.scales.indexOf(state.scale)
    models.knockout.active = told.knockouts.indexOf(state.knockout)
    models.parts.active = told.parts.flatMap((role, n) => (state.parts.split(",").includes(role) ? [n] : []))
    models.count.value = numOutliers
    pair.disable(models.automatic, state.num_outliers < 0)
    pair.write(models.rule, this.rule())
    pair.write(models.message, this.message())
    pair.write(models.note, this.note())
  }

  note() {
    const {state, told, selected} = this.pair
    const moves = this.pair.models.spectrum.curves[`G/${state.scale}`].data.rest !== undefined
    const density = moves
      ? " The density moves with these; below them it is still G’s."
      : " The grey density is still G’s."
    if (state.knockout === "subtracted") {
      return `<b>Knocked out:</b> the sticks are the leading eigenvalues of G − ${told.partName}, `
        + `what is left of the outliers (dotted) without the class part.${density}`
    }
    if (state.knockout === "projected") {
      return "<b>Knocked out:</b> the sticks are the leading eigenvalues of G without the "
        + `directions that the class means span; dotted: the outliers as they were.${density}`
    }
    if (state.operator === "all") {
      const lines = {G: "grey", Hess: "dashed", H: "dotted"}
      return Object.entries(told.notes)
        .map(([name, note]) => `<b>${name}</b> (${lines[name]}): ${escape(note)}`).join(" ")
    }
    const elsewhere = state.operator !== "G" && selected
      ? " What is selected is shown on the spectrum of G only." : ""
    return escape(told.notes[state.operator]) + elsewhere
  }

  rule() {
    const {state, told, numOutliers: k, parts} = this.pair
    if (state.num_outliers < 0) return told.rule
    const {value} = parts.spectrum.eigenvalues.G.data
    const lowered = (n) => String(n).replace(/./g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit])
    const ratio = k > 0 && value[k] > 0
      ? ` λ${lowered(k)}/λ${lowered(k + 1)} = ${rounded(value[k - 1] / value[k], 3)}.` : ""
    return `<b>You count ${k}.</b>${ratio} By the rule: ${told.rule}`
  }

  message() {
    const {selected_class: c, selected_outlier: j} = this.pair.state
    const {overlap, classNames, hint} = this.pair.told
    const first = (pairs) => pairs.sort((a, b) => b[1] - a[1]).slice(0, 3)
    if (c >= 0) {
      const along = first(overlap.map((row, n) => [this.pair.rank(n), row[c]]))
        .map(([rank, share]) => `<b>${percent(share)}</b> along ${rank}`)
      return `The class mean of <b>${escape(classNames[c])}</b> points ${along.join(", ")}.`
    }
    if (j >= 0) {
      const held = first(overlap[j].map((share, n) => [classNames[n], share]))
        .map(([name, share]) => `<b>${percent(share)}</b> of ${escape(name)}’s`)
      return `Along ${this.pair.rank(j)} lie ${held.join(", ")} class mean.`
    }
    return escape(hint)
  }

  dress() {
    const {models} = this
    const {stepper} = this.pair.models
    const {titles, labels} = this.pair.told
    const groups = [models.classes, models.outliers, models.operator, models.scale,
      models.parts, models.knockout, stepper.speed]
    for (const model of groups) {
      labelGroup(this.pair.element(model), model, labels[model.name], titles[model.name])
    }
    const chips = this.pair.element(models.outliers)?.querySelectorAll("button")
    chips?.forEach((chip, j) => { chip.style.borderStyle = j < this.pair.numOutliers ? "" : "dashed" })
    const buttons = [stepper.back, stepper.play, stepper.step, models.clear, models.automatic]
      .map((model) => [model, titles[model.name]])
    for (const [model, title] of [...buttons, ...stepper.stations.map((model, n) => [model, titles.station[n]])]) {
      const button = this.pair.element(model)?.querySelector("button")
      if (button) button.title = title
    }
    for (const slider of [stepper.position, models.count]) {
      const root = this.pair.element(slider)
      root?.querySelector("[role=slider]")?.setAttribute("aria-label", labels[slider.name])
      if (root) root.host.title = labels[slider.name]
    }
  }
}
