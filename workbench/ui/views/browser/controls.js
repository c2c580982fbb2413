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
    state.setv({operator, knockout: operator === "G" ? state.knockout : "none"})
  }

  knockOut(knockout) {
    const {state} = this.pair
    state.setv({knockout, operator: knockout === "none" ? state.operator : "G"})
  }

  render() {
    const {models} = this
    const {state, told, selected} = this.pair
    models.classes.active = [state.selected_class].filter((c) => c >= 0)
    models.outliers.active = [state.selected_outlier].filter((j) => j >= 0)
    models.clear.disabled = !selected
    models.operator.active = models.operator.labels.indexOf(state.operator)
    models.scale.active = told.scales.indexOf(state.scale)
    models.knockout.active = told.knockouts.indexOf(state.knockout)
    models.message.text = this.message()
    models.note.text = this.note()
    this.dress()
  }

  note() {
    const {state, told, selected} = this.pair
    if (state.knockout === "subtracted") {
      return `The sticks are the leading eigenvalues of G − ${escape(told.partName)}: what is `
        + "left of the outliers without the class part. The grey density is still G’s."
    }
    if (state.knockout === "projected") {
      return "The sticks are the leading eigenvalues of G without the directions that the "
        + "class means span. The grey density is still G’s."
    }
    const elsewhere = state.operator !== "G" && selected
      ? " What is selected is shown on the spectrum of G only." : ""
    return escape(told.notes[state.operator]) + elsewhere
  }

  message() {
    const {selected_class: c, selected_outlier: j} = this.pair.state
    const {overlap, classNames, ranks, hint} = this.pair.told
    const first = (pairs) => pairs.sort((a, b) => b[1] - a[1]).slice(0, 3)
    if (c >= 0) {
      const along = first(overlap.map((row, n) => [ranks[n], row[c]]))
        .map(([rank, share]) => `<b>${percent(share)}</b> along ${rank}`)
      return `The class mean of <b>${escape(classNames[c])}</b> points ${along.join(", ")}.`
    }
    if (j >= 0) {
      const held = first(overlap[j].map((share, n) => [classNames[n], share]))
        .map(([name, share]) => `<b>${percent(share)}</b> of ${escape(name)}’s`)
      return `Along ${ranks[j]} lie ${held.join(", ")} class mean.`
    }
    return escape(hint)
  }

  // What Bokeh's widgets leave unsaid to a screen reader.
  dress() {
    const {models} = this
    const {stepper} = this.pair.models
    const groups = [
      [models.classes, "Classes"], [models.outliers, "Outliers"],
      [models.operator, "Operator"], [models.scale, "Eigenvalue axis"],
      [models.knockout, "Take away from G"], [stepper.speed, "Speed"],
    ]
    for (const [model, label] of groups) {
      const root = Bokeh.index.find_one(model)?.shadow_el
      root?.querySelector(".bk-btn-group")?.setAttribute("role", "group")
      root?.querySelector(".bk-btn-group")?.setAttribute("aria-label", label)
      const active = [model.active].flat()
      root?.querySelectorAll("button").forEach((button, index) => {
        button.setAttribute("aria-pressed", String(active.includes(index)))
      })
    }
    const handle = Bokeh.index.find_one(stepper.position)?.shadow_el.querySelector("[role=slider]")
    handle?.setAttribute("aria-label", "Averages taken so far, from none to three")
  }
}
