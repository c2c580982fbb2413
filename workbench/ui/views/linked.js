// The browser's half of the linked pair (linked.py): stepper, selection, spectrum.
//
// One controller for each LinkState. A control asks through `handle`, which writes the
// state; a change of the state, from here or from Python, comes back through `handle`
// too and is drawn by `render`. So the state is the one source of truth, and every path
// may be taken twice without harm. Nothing is measured or computed anew here: marks and
// sticks are only placed between places that Python gave.

const STEP_SECONDS = 1.6 // one average, at speed 1
const HOLD_SECONDS = 0.9 // between two of them, while playing
const KNOCK_SECONDS = 0.9
const FADED = 0.07 // emphasis of what is not selected
const REACH = 10 // pixels beside a mark that still count as a click upon it
const LABEL_WIDTH = 40 // pixels that the number upon a stick takes
const SOLID = [[0.8, 0.8], [0.1, 0.85], [0.1, 0.9], [0, 0]] // fill: awaited, reached
const OUTLINE = [[0, 0], [0.75, 1], [0.9, 1], [0.6, 1]] // outline: awaited, reached

const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value))
const ease = (t) => t * t * (3 - 2 * t)
const mix = (from, to, t) => from * (1 - t) + to * t // exact at both ends
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches
const escape = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`)
const rounded = (value, digits) => Number(value.toPrecision(digits)).toString().replace("-", "−")
const percent = (share) => {
  const value = 100 * share
  if (value === 0 || (value >= 9.95 && value < 99.5) || value >= 99.95) return `${value.toFixed(0)}\u00a0%`
  return value < 0.1 ? "below 0.1\u00a0%" : `${value.toFixed(1)}\u00a0%`
}

class LinkedPair {
  constructor(models) {
    Object.assign(this, models)
    this.position = 0 // where the stepper is; a fraction between levels
    this.target = 0 // where it goes
    this.drawn = [] // what each level was last drawn from
    this.frame = 0 // of requestAnimationFrame; 0: at rest
    this.removing = 0 // the same for the knock-out
    this.removed = null // where the sticks of G are, knocked out so far
    // The state as it was last drawn: at first as Python drew it.
    this.shown = {selected_class: -1, selected_outlier: -1, level: 0, playing: false,
      speed: 1, operator: "G", scale: "linear", knockout: "none"}
    this.onKey = (event) => this.key(event)
    document.addEventListener("keydown", this.onKey)
  }

  // ---- what a control asks for --------------------------------------------------

  handle(origin) {
    const {state, told} = this
    const isEvent = origin.event_name !== undefined
    const from = isEvent ? origin.origin : origin
    const [name, index] = from.name.split(" ")
    switch (name) {
      case "state": return this.render()
      case "station": return this.jump(Number(index))
      case "step": return this.jump(this.next(1))
      case "back": return this.jump(this.next(-1))
      case "play": return state.setv({playing: !state.playing})
      case "position": return this.drag(from.value)
      case "speed": return state.setv({speed: told.speeds[from.active]})
      case "classes": return this.toggled(from.active, "selected_class")
      case "outliers": return this.toggled(from.active, "selected_outlier")
      case "clear": return this.select({})
      case "operator": return this.operate(from.labels[from.active])
      case "scale": return state.setv({scale: told.scales[from.active]})
      case "knockout": return this.knockOut(told.knockouts[from.active])
      case "embedding": return isEvent ? this.pickMark(origin) : this.dress()
      case "spectrum": return this.pickStick(origin)
      case "overlap": return this.pickCell(origin)
    }
  }

  // Whether no other study took this one's place. (Its models outlive that a while.)
  get onPage() {
    return Bokeh.index.find_one(this.figures.embedding) !== null
  }

  // One thing is selected at a time; selecting it again clears it.
  select({selected_class = -1, selected_outlier = -1}) {
    const {state} = this
    if (selected_class === state.selected_class && selected_outlier === state.selected_outlier) {
      selected_class = selected_outlier = -1
    }
    // Overlaps were measured for G, so an outlier is one of G's.
    const operator = selected_outlier >= 0 ? "G" : state.operator
    state.setv({selected_class, selected_outlier, operator})
  }

  // A group of buttons holds what was and what is new; the new one counts.
  toggled(active, what) {
    const was = this.state[what]
    const fresh = active.filter((index) => index !== was)
    if (fresh.length > 0) this.select({[what]: fresh[0]})
    else if (was >= 0 && !active.includes(was)) this.select({})
  }

  operate(operator) {
    const knockout = operator === "G" ? this.state.knockout : "none"
    this.state.setv({operator, knockout})
  }

  knockOut(knockout) {
    const operator = knockout === "none" ? this.state.operator : "G"
    this.state.setv({operator, knockout})
  }

  key(event) {
    if (!this.onPage) document.removeEventListener("keydown", this.onKey)
    else if (event.key === "Escape") this.state.setv({selected_class: -1, selected_outlier: -1})
  }

  // Pixels a unit of each axis.
  scale(figure) {
    const {x_range: x, y_range: y, inner_width, inner_height} = figure
    return [inner_width / Math.abs(x.end - x.start), inner_height / Math.abs(y.end - y.start)]
  }

  pickMark({x, y}) {
    const [perX, perY] = this.scale(this.figures.embedding)
    let [best, found] = [REACH, -1]
    this.marks.slice(0, 3).forEach((source, level) => {
      const view = this.markViews[level]
      if (!view.visible) return
      const {data} = source
      const radius = view.glyph.size.value / 2
      for (let row = 0; row < data.c.length; row++) {
        const far = Math.hypot((data.x[row] - x) * perX, (data.y[row] - y) * perY) - radius
        if (far < best) [best, found] = [far, data.c[row]]
      }
    })
    if (found >= 0) this.select({selected_class: found})
  }

  pickStick({x, y}) {
    if (this.state.operator !== "G") return
    const [perX, perY] = this.scale(this.figures.spectrum)
    const {data} = this.spectrum.sticks
    let [best, found] = [REACH, -1]
    for (let j = 0; j < this.told.overlap.length; j++) {
      const above = Math.max(0, y - data.top[j]) * perY
      const far = Math.hypot((data.x[j] - x) * perX, above)
      if (far < best) [best, found] = [far, j]
    }
    if (found >= 0) this.select({selected_outlier: found})
  }

  // A cell or its head stands for the class; the row's number and its sum for the outlier.
  pickCell({x, y}) {
    const {overlap, classNames} = this.told
    const [c, j] = [Math.round(x), Math.round(y)]
    const inside = x > -0.5 && c < classNames.length
    if (inside && j < overlap.length) this.select({selected_class: c})
    else if (!inside && j >= 0 && j < overlap.length) this.select({selected_outlier: j})
  }

  // ---- the stepper --------------------------------------------------------------

  // The level that one step leads to, also from between two levels and while on the way.
  next(direction) {
    const {position, target} = this
    const level = Math.sign(target - position) === direction ? target + direction
      : direction > 0 ? Math.floor(position + 1e-6) + 1 : Math.ceil(position - 1e-6) - 1
    return clamp(level, 0, 3)
  }

  jump(level) {
    this.state.setv({playing: false})
    this.play(false)
    this.go(level)
  }

  go(level) {
    this.target = level
    this.shown.level = level
    this.state.setv({level})
    if (calm()) {
      this.position = level
      this.drawMarks()
    }
    this.run()
  }

  drag(value) {
    if (Math.abs(value - this.position) < 0.006) return // it only shows where we are
    const level = Math.round(value)
    this.position = this.target = value
    this.shown.level = level
    this.state.setv({playing: false, level})
    this.drawMarks()
  }

  play(playing) {
    this.shown.playing = playing
    if (!playing) {
      this.target = this.position
      return
    }
    if (this.position >= 3) this.position = 0
    this.go(Math.floor(this.position) + 1)
  }

  run() {
    if (this.frame !== 0) return
    let before = performance.now()
    let held = 0
    const tick = (now) => {
      this.frame = 0
      const {state} = this
      if (!this.onPage) return
      const seconds = clamp((now - before) / 1000, 0, 0.1) * state.speed
      before = now
      const left = this.target - this.position
      if (left !== 0) {
        const stride = seconds / STEP_SECONDS
        this.position = stride >= Math.abs(left) ? this.target
          : this.position + Math.sign(left) * stride
        this.drawMarks()
      } else if (!state.playing) {
        return
      } else if (this.position >= 3) {
        state.setv({playing: false})
        return
      } else if ((held += seconds) > HOLD_SECONDS) {
        held = 0
        this.go(Math.floor(this.position) + 1)
      }
      if (this.frame === 0) this.frame = requestAnimationFrame(tick)
    }
    this.frame = requestAnimationFrame(tick)
  }

  // ---- drawing ------------------------------------------------------------------

  render() {
    const {state, shown} = this
    const changed = new Set(Object.keys(shown).filter((key) => state[key] !== shown[key]))
    if (changed.size === 0) return
    for (const key of changed) shown[key] = state[key]
    const picked = changed.has("selected_class") || changed.has("selected_outlier")
    const reframed = changed.has("operator") || changed.has("scale")
    if (changed.has("playing")) this.play(state.playing)
    else if (changed.has("level") && state.level !== this.target) this.go(state.level)
    if (picked) {
      this.drawMarks()
      this.drawTable()
    }
    if (reframed) this.drawFrame()
    if (state.operator !== "G") this.forgetKnockOut()
    if (changed.has("knockout") && state.operator === "G") this.removeSticks()
    else if (picked || reframed) this.drawSticks()
    this.drawControls()
  }

  // How much each class matters to what is selected; 1 where nothing is.
  classWeights() {
    const {selected_class, selected_outlier} = this.state
    const {overlap, classNames} = this.told
    if (selected_class >= 0) return classNames.map((_, c) => Number(c === selected_class))
    if (selected_outlier < 0) return classNames.map(() => 1)
    const row = overlap[selected_outlier]
    const most = Math.max(...row, 1e-12)
    return row.map((share) => share / most)
  }

  get selected() {
    return this.state.selected_class >= 0 || this.state.selected_outlier >= 0
  }

  drawMarks() {
    this.marks.forEach((_, level) => this.drawLevel(level))
    this.drawStations()
  }

  drawLevel(level) {
    const {position, selected} = this
    const {selected_class, selected_outlier} = this.state
    const source = this.marks[level]
    const view = this.markViews[level]
    const moved = level === 3 ? 0 : ease(clamp(position - level))
    const reached = level === 0 ? 1 : ease(clamp(position - level + 1))
    const drawn = [moved, reached, selected_class, selected_outlier].join()
    if (drawn === this.drawn[level]) return
    this.drawn[level] = drawn
    view.visible = moved < 1
    const leaving = 1 - clamp((moved - 0.9) / 0.1)
    const solid = mix(...SOLID[level], reached) * leaving
    const outline = mix(...OUTLINE[level], reached) * leaving
    const weights = this.classWeights()
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

  drawStations() {
    const {position, stepper} = this
    const at = Math.round(position)
    const averaging = Number.isInteger(position) ? -1 : Math.ceil(position)
    stepper.stations.forEach((station, level) => {
      const classes = ["wb-station"]
      if (level === at) classes.push("wb-on")
      if (level < position) classes.push("wb-done")
      if (level === averaging) classes.push("wb-averaging")
      if (station.css_classes.join() !== classes.join()) station.css_classes = classes
    })
    stepper.now.text = stepper.sentences[at]
    stepper.position.value = position
  }

  // Where a value stands on the eigenvalue axis; `_position` in spectrum.py is the same.
  place(value) {
    if (this.state.scale === "linear") return value
    const {floor} = this.spectrum
    return Math.sign(value) * (Math.log10(Math.max(Math.abs(value), 10 ** floor)) - floor)
  }

  drawFrame() {
    const {state, spectrum} = this
    const key = `${state.operator}/${state.scale}`
    const {x, y, x_label, y_label} = spectrum.frames[key]
    const {ticker, format} = spectrum.axes[state.scale]
    const {x_range, y_range, below, left} = spectrum.figure
    x_range.setv({start: x[0], end: x[1], reset_start: x[0], reset_end: x[1]})
    y_range.setv({start: y[0], end: y[1], reset_start: y[0], reset_end: y[1]})
    below[0].setv({axis_label: x_label, ticker, formatter: format})
    left[0].axis_label = y_label
    spectrum.curve.data = {...spectrum.curves[key].data}
  }

  // Let the sticks travel to where they stand without the class part.
  removeSticks() {
    const {data} = this.spectrum.eigenvalues.G
    const {knockout} = this.state
    const goal = Array.from(data[knockout === "none" ? "value" : knockout])
    const start = this.removed ?? Array.from(data.value)
    const begin = performance.now()
    cancelAnimationFrame(this.removing)
    const tick = (now) => {
      const t = calm() ? 1 : clamp((now - begin) / 1000 / KNOCK_SECONDS)
      this.removed = goal.map((value, j) => mix(start[j], value, ease(t)))
      if (t === 1 && knockout === "none") this.removed = null
      if (this.state.operator === "G") this.drawSticks()
      if (t < 1 && this.onPage) this.removing = requestAnimationFrame(tick)
    }
    tick(begin)
  }

  forgetKnockOut() {
    cancelAnimationFrame(this.removing)
    this.removed = null
  }

  drawSticks() {
    const {state, spectrum, told} = this
    const {operator, scale, knockout, selected_class: c, selected_outlier: picked} = state
    const stored = spectrum.eigenvalues[operator].data
    const ofG = operator === "G"
    const values = (ofG && this.removed) || Array.from(stored.value)
    const knocked = ofG && knockout !== "none"
    const [bottom, top] = spectrum.frames[`${operator}/${scale}`].y
    const height = (share) => bottom + share * (top - bottom)
    const linked = ofG && this.selected
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
    spectrum.sticks.data = sticks
    const where = Array.from(stored.value, (value) => (knocked ? this.place(value) : NaN))
    spectrum.ghosts.data = {x: where, base: sticks.base, top: sticks.top}
    this.drawClassPart(height, operator !== "H" && !knocked)
  }

  // Where two numbers would overlap, the taller stick keeps its own.
  thinLabels({x, top, label}) {
    const [perX, perY] = this.scale(this.spectrum.figure)
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
    const {class_part} = this.spectrum
    const {value} = class_part.data
    class_part.data = {
      ...class_part.data,
      x: Array.from(value, (v) => (shown ? this.place(v) : NaN)),
      base: Array.from(value, () => height(0)),
      top: Array.from(value, () => height(this.told.classPartTop)),
    }
  }

  drawTable() {
    const {selected_class: c, selected_outlier: j} = this.state
    const {ink, onAccent} = this.told.colors
    const {data} = this.cells
    this.cellLine ??= data.line[0] // as Python drew it
    for (let cell = 0; cell < data.value.length; cell++) {
      const total = data.c[cell] < 0
      const inside = this.selected && (c >= 0 ? data.c[cell] === c : data.j[cell] === j)
      data.line[cell] = inside ? ink : this.cellLine
      data.alpha[cell] = (total ? 0.55 : 0.9) * data.value[cell] * (!this.selected || inside ? 1 : 0.3)
      data.text_color[cell] = data.alpha[cell] > 0.5 && !total ? onAccent : ink
    }
    this.cells.change.emit()
  }

  drawControls() {
    const {state, stepper, controls, told} = this
    controls.classes.active = [state.selected_class].filter((c) => c >= 0)
    controls.outliers.active = [state.selected_outlier].filter((j) => j >= 0)
    controls.clear.disabled = !this.selected
    controls.operator.active = controls.operator.labels.indexOf(state.operator)
    controls.scale.active = told.scales.indexOf(state.scale)
    controls.knockout.active = told.knockouts.indexOf(state.knockout)
    stepper.speed.active = told.speeds.indexOf(state.speed)
    stepper.play.label = state.playing ? "Pause" : "Play"
    controls.message.text = this.message()
    controls.note.text = this.note()
    this.dress()
  }

  note() {
    const {state, told} = this
    if (state.knockout === "subtracted") {
      return `The sticks are the leading eigenvalues of G − ${escape(told.partName)}: what is `
        + "left of the outliers without the class part. The grey density is still G’s."
    }
    if (state.knockout === "projected") {
      return "The sticks are the leading eigenvalues of G without the directions that the "
        + "class means span. The grey density is still G’s."
    }
    const elsewhere = state.operator !== "G" && this.selected
      ? " What is selected is shown on the spectrum of G only." : ""
    return escape(told.notes[state.operator]) + elsewhere
  }

  message() {
    const {selected_class: c, selected_outlier: j} = this.state
    const {overlap, classNames, ranks, hint} = this.told
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
    const {controls, stepper} = this
    const groups = [
      [controls.classes, "Classes"], [controls.outliers, "Outliers"],
      [controls.operator, "Operator"], [controls.scale, "Eigenvalue axis"],
      [controls.knockout, "Take away from G"], [stepper.speed, "Speed"],
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

const pairs = (globalThis.workbenchPairs ??= new WeakMap())
if (!pairs.has(state)) {
  pairs.set(state, new LinkedPair({
    state, marks, markViews, spectrum, cells, stepper, controls, figures, told,
  }))
}
pairs.get(state).handle(cb_obj)
