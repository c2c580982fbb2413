// The browser's half of the linked pair (linked.py): stepper, selection, spectrum.
//
// One controller for each LinkState. A control asks through `handle`, which writes the
// state; a change of the state, from here or from Python, comes back through `handle`
// too and is drawn by `render`. So the state is the one source of truth, and every path
// may be taken twice without harm. No value here is measured or computed anew: marks
// and sticks are only placed between places that Python gave.

const STEP_SECONDS = 1.6 // one average, at speed 1
const HOLD_SECONDS = 0.9 // between two of them, while playing
const FADED = 0.06 // emphasis of what is not selected
const REACH = 10 // pixels beside a mark that still count as a click upon it
const SOLID = [[0.8, 0.8], [0.1, 0.85], [0.1, 0.9], [0, 0]] // fill: awaited, reached
const OUTLINE = [[0, 0], [0.75, 1], [0.9, 1], [0.6, 1]] // outline: awaited, reached

const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value))
const ease = (t) => t * t * (3 - 2 * t)
const mix = (from, to, t) => from + (to - from) * t
const percent = (share) => {
  const value = 100 * share
  return value >= 9.95 || value === 0 ? `${value.toFixed(0)} %`
    : value < 0.1 ? "below 0.1 %" : `${value.toFixed(1)} %`
}
const escape = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`)
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches

class LinkedPair {
  constructor(models) {
    Object.assign(this, models)
    this.position = this.state.level // where the stepper is; a fraction between levels
    this.target = this.position // where it goes
    this.frame = 0 // of requestAnimationFrame; 0: at rest
    this.removed = null // what the knock-out has done so far, by stick
    this.shown = {} // the state as it was last drawn
    this.onKey = (event) => this.key(event)
    document.addEventListener("keydown", this.onKey)
  }

  // ---- what a control asks for --------------------------------------------------

  handle(origin) {
    const {state, stepper} = this
    const isEvent = origin.event_name !== undefined
    const from = isEvent ? origin.origin : origin
    const [name, index] = from.name.split(" ")
    switch (name) {
      case "state": return this.render()
      case "station": return this.jump(Number(index))
      case "step": return this.jump(this.next(1))
      case "back": return this.jump(this.next(-1))
      case "play": return this.set({playing: !state.playing})
      case "position": return this.drag(from.value)
      case "speed": return this.set({speed: this.told.speeds[from.active]})
      case "classes": return this.toggled(from.active, "selected_class")
      case "outliers": return this.toggled(from.active, "selected_outlier")
      case "clear": return this.select({})
      case "operator": return this.operate(from.labels[from.active])
      case "scale": return this.set({scale: ["linear", "log"][from.active]})
      case "knockout": return this.knockOut(["none", "subtracted", "projected"][from.active])
      case "embedding": return this.pickMark(origin)
      case "spectrum": return this.pickStick(origin)
      case "overlap": return this.pickCell(origin)
    }
  }

  set(values) {
    this.state.setv(values)
  }

  // One thing is selected at a time; selecting it again clears it.
  select({selected_class = -1, selected_outlier = -1}) {
    const {state} = this
    if (selected_class === state.selected_class && selected_outlier === state.selected_outlier) {
      selected_class = selected_outlier = -1
    }
    const values = {selected_class, selected_outlier}
    if (selected_outlier >= 0) values.operator = "G" // overlaps were measured for G
    this.set(values)
  }

  // A group of buttons holds what was and what is new; the new one counts.
  toggled(active, what) {
    const was = this.state[what]
    const fresh = active.filter((index) => index !== was)
    if (fresh.length) this.select({[what]: fresh[0]})
    else if (!active.includes(was) && was >= 0) this.select({})
  }

  operate(operator) {
    this.set(operator === "G" ? {operator} : {operator, knockout: "none"})
  }

  knockOut(knockout) {
    this.set(knockout === "none" ? {knockout} : {knockout, operator: "G"})
  }

  key(event) {
    if (this.state.document === null) document.removeEventListener("keydown", this.onKey)
    else if (event.key === "Escape") this.set({selected_class: -1, selected_outlier: -1})
  }

  pixels(figure) {
    const {x_range, y_range, inner_width, inner_height} = figure
    return [inner_width / Math.abs(x_range.end - x_range.start),
      inner_height / Math.abs(y_range.end - y_range.start)]
  }

  pickMark({x, y}) {
    const [perX, perY] = this.pixels(this.figures.embedding)
    let best = REACH
    let found = -1
    this.marks.forEach((source, level) => {
      if (level > 2 || !this.markViews[level].visible) return
      const {data} = source
      const radius = this.markViews[level].glyph.size.value / 2
      for (let row = 0; row < data.c.length; row++) {
        const far = Math.hypot((data.x[row] - x) * perX, (data.y[row] - y) * perY) - radius
        if (far < best) [best, found] = [Math.max(far, -radius), data.c[row]]
      }
    })
    if (found >= 0) this.select({selected_class: found})
  }

  pickStick({x, y}) {
    if (this.state.operator !== "G") return
    const [perX, perY] = this.pixels(this.figures.spectrum)
    const {data} = this.spectrum.sticks
    let best = REACH
    let found = -1
    for (let j = 0; j < this.told.overlap.length; j++) {
      const above = Math.max(0, y - data.top[j]) * perY
      const far = Math.hypot((data.x[j] - x) * perX, above)
      if (far < best) [best, found] = [far, j]
    }
    if (found >= 0) this.select({selected_outlier: found})
  }

  pickCell({x, y}) {
    const [c, j] = [Math.round(x), Math.round(y)]
    const {overlap, classNames} = this.told
    const inside = x > -0.5 && c < classNames.length
    if (inside && y < overlap.length - 0.5) this.select({selected_class: c})
    else if (!inside && j >= 0 && j < overlap.length) this.select({selected_outlier: j})
  }

  // ---- the stepper --------------------------------------------------------------

  next(direction) {
    const moving = Math.sign(this.target - this.position)
    const level = moving === direction ? this.target + direction
      : direction > 0 ? Math.floor(this.position + 1e-6) + 1
        : Math.ceil(this.position - 1e-6) - 1
    return clamp(level, 0, 3)
  }

  jump(level) {
    this.set({playing: false})
    this.go(level)
  }

  go(level) {
    this.target = level
    this.set({level})
    this.shown.level = level
    if (calm()) {
      this.position = level
      this.drawMarks()
    }
    this.run()
  }

  drag(value) {
    if (Math.abs(value - this.position) < 0.006) return // our own doing
    this.set({playing: false, level: Math.round(value)})
    this.shown.level = this.state.level
    this.position = this.target = value
    this.drawMarks()
  }

  run() {
    if (this.frame) return
    let before = performance.now()
    let held = 0
    const tick = (now) => {
      this.frame = 0
      const {state} = this
      if (state.document === null) return
      const seconds = Math.min(0.1, (now - before) / 1000) * state.speed
      before = now
      if (this.position !== this.target) {
        const left = this.target - this.position
        const stride = Math.min(Math.abs(left), seconds / STEP_SECONDS)
        this.position = stride === Math.abs(left) ? this.target
          : this.position + Math.sign(left) * stride
        this.drawMarks()
      } else if (!state.playing) {
        return
      } else if (this.position >= 3) {
        return this.set({playing: false})
      } else if ((held += seconds) > HOLD_SECONDS) {
        held = 0
        this.go(Math.floor(this.position) + 1)
      }
      this.frame ||= requestAnimationFrame(tick)
    }
    this.frame = requestAnimationFrame(tick)
  }

  play(playing) {
    if (!playing) {
      this.target = this.position
    } else {
      if (this.position >= 3) this.position = 0
      this.go(Math.floor(this.position) + 1)
    }
  }

  // ---- drawing ------------------------------------------------------------------

  render() {
    const {state, shown} = this
    const keys = ["selected_class", "selected_outlier", "level", "playing", "speed",
      "operator", "scale", "knockout"]
    const changed = new Set(keys.filter((key) => state[key] !== shown[key]))
    if (changed.size === 0) return
    const first = shown.operator === undefined
    for (const key of keys) shown[key] = state[key]
    if (changed.has("playing") && !(first && !state.playing)) this.play(state.playing)
    if (changed.has("level") && !first && state.level !== this.target) this.go(state.level)
    const picked = changed.has("selected_class") || changed.has("selected_outlier")
    if (picked) {
      this.drawMarks()
      this.drawTable()
    }
    if (changed.has("operator") || changed.has("scale")) this.drawFrame()
    if (changed.has("knockout") && !first) this.removeSticks()
    else if (picked || changed.has("operator") || changed.has("scale")) this.drawSticks()
    this.drawControls()
  }

  // How much each class matters to what is selected; 1 where nothing is.
  classWeights() {
    const {selected_class, selected_outlier} = this.state
    const {overlap, classNames} = this.told
    if (selected_class >= 0) return classNames.map((_, c) => Number(c === selected_class))
    if (selected_outlier < 0) return classNames.map(() => 1)
    const row = overlap[selected_outlier] ?? []
    const most = Math.max(...row, 1e-12)
    return row.map((share) => share / most)
  }

  drawMarks() {
    const {position} = this
    const {selected_class, selected_outlier} = this.state
    const some = selected_class >= 0 || selected_outlier >= 0
    const weights = this.classWeights()
    this.marks.forEach((source, level) => {
      const view = this.markViews[level]
      const gone = position >= level + 1 && level < 3
      view.visible = !gone
      if (gone) return
      const {data} = source
      const moved = ease(clamp(position - level))
      const reached = level === 0 ? 1 : ease(clamp(position - level + 1))
      const leaving = level < 3 ? 1 - clamp((moved - 0.9) / 0.1) : 1
      const solid = mix(...SOLID[level], reached) * leaving
      const outline = mix(...OUTLINE[level], reached) * leaving
      for (let row = 0; row < data.c.length; row++) {
        const stays = data.stays[row] === 1
        const c = data.c[row]
        const weight = c < 0 ? (some ? 0.3 : 1) : mix(FADED, 1, weights[c])
        const alpha = weight * (stays ? 1 - moved : 1)
        data.x[row] = stays ? data.home_x[row] : mix(data.home_x[row], data.target_x[row], moved)
        data.y[row] = stays ? data.home_y[row] : mix(data.home_y[row], data.target_y[row], moved)
        data.fill_alpha[row] = solid * alpha
        data.line_alpha[row] = outline * alpha
      }
      source.change.emit()
    })
    this.drawStations()
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
    if (stepper.now.text !== this.told.sentences[at]) stepper.now.text = this.told.sentences[at]
    stepper.position.value = position
  }

  // Where a value stands on the eigenvalue axis (`_position` in spectrum.py).
  place(value) {
    if (this.state.scale === "linear") return value
    const {floor} = this.spectrum
    return Math.sign(value) * (Math.log10(Math.max(Math.abs(value), 10 ** floor)) - floor)
  }

  drawFrame() {
    const {state, spectrum} = this
    const key = `${state.operator}/${state.scale}`
    const {x, y, label} = spectrum.frames[key]
    const {ticker, format} = spectrum.axes[state.scale]
    spectrum.xRange.setv({start: x[0], end: x[1], reset_start: x[0], reset_end: x[1]})
    spectrum.yRange.setv({start: y[0], end: y[1], reset_start: y[0], reset_end: y[1]})
    spectrum.xAxis.setv({axis_label: label, ticker, formatter: format})
    spectrum.curve.data = {...spectrum.curves[key].data}
    this.removed = null
  }

  stickValues() {
    const {data} = this.spectrum.eigenvalues[this.state.operator]
    return Array.from(data[{none: "value"}[this.state.knockout] ?? this.state.knockout])
  }

  // Let the sticks travel to where they stand without the class part.
  removeSticks() {
    const goal = this.stickValues()
    const start = this.removed ?? Array.from(this.spectrum.eigenvalues.G.data.value)
    cancelAnimationFrame(this.removing)
    if (calm() || start.length !== goal.length) {
      this.removed = goal
      return this.drawSticks()
    }
    const begin = performance.now()
    const tick = (now) => {
      const t = clamp((now - begin) / 900)
      this.removed = goal.map((value, j) => mix(start[j], value, ease(t)))
      this.drawSticks()
      if (t < 1 && this.state.document !== null) this.removing = requestAnimationFrame(tick)
    }
    tick(begin)
  }

  drawSticks() {
    const {state, spectrum, told} = this
    const {y} = spectrum.frames[`${state.operator}/${state.scale}`]
    const stored = spectrum.eigenvalues[state.operator].data
    const values = state.operator === "G" && this.removed ? this.removed : this.stickValues()
    const height = (share) => y[0] + share * (y[1] - y[0])
    const {selected_class: c, selected_outlier: picked} = state
    const linked = state.operator === "G" && (c >= 0 || picked >= 0)
    const most = Math.max(...told.overlap.map((row) => row[c] ?? 0), 1e-12)
    const sticks = {x: [], low: [], high: [], base: [], top: [], color: [], alpha: [],
      width: [], size: [], label: [], name: [], shown: [], error: []}
    values.forEach((value, j) => {
      const residual = state.knockout === "none" ? stored.residual[j] : 0
      const outlier = Boolean(stored.outlier[j])
      const share = told.overlap[j]?.[c] ?? 0
      const weight = !linked ? (outlier ? 0.45 : 0.15)
        : c >= 0 ? share / most : Number(j === picked)
      sticks.x.push(this.place(value))
      sticks.low.push(this.place(value - residual))
      sticks.high.push(this.place(value + residual))
      sticks.base.push(y[0])
      sticks.top.push(height(told.stickTop * (linked ? mix(0.75, 1.25, weight) : 1)))
      sticks.color.push(!linked ? told.colors.ink
        : c >= 0 ? told.classColors[c] : told.colors.accent)
      sticks.alpha.push(linked ? mix(0.12, 1, weight) : outlier ? 0.95 : 0.4)
      sticks.width.push(mix(1.2, linked ? 6 : 3.8, weight))
      sticks.size.push(mix(4, linked ? 14 : 15, weight))
      sticks.label.push(!linked || weight < 0.12 ? ""
        : c >= 0 ? percent(share) : String(j + 1))
      sticks.name.push(stored.name[j])
      sticks.shown.push(Number(value.toPrecision(3)).toString())
      sticks.error.push(residual > 0 ? ` ± ${Number(residual.toPrecision(2))}` : "")
    })
    spectrum.sticks.data = sticks
    this.drawClassPart(height)
  }

  drawClassPart(height) {
    const {state, spectrum, told} = this
    const {data} = spectrum.classPart
    const shown = state.operator !== "H" && state.knockout === "none"
    const {value} = data
    const place = Array.from(value, (v) => (shown ? this.place(v) : NaN))
    spectrum.classPart.data = {...data, x: place, low: place, high: place,
      base: place.map(() => height(0)), top: place.map(() => height(told.classPartTop))}
  }

  drawTable() {
    const {selected_class: c, selected_outlier: j} = this.state
    const {data} = this.overlap
    const some = c >= 0 || j >= 0
    for (let cell = 0; cell < data.value.length; cell++) {
      const total = data.c[cell] < 0
      const inside = data.c[cell] === c && !total || data.j[cell] === j
      data.line[cell] = some && inside ? this.told.colors.ink : this.told.colors.line
      data.alpha[cell] = (total ? 0.55 : 0.9) * data.value[cell] * (!some || inside ? 1 : 0.35)
    }
    this.overlap.change.emit()
  }

  drawControls() {
    const {state, stepper, controls, told} = this
    const only = (index) => (index >= 0 ? [index] : [])
    controls.classes.active = only(state.selected_class)
    controls.outliers.active = only(state.selected_outlier)
    controls.clear.disabled = state.selected_class < 0 && state.selected_outlier < 0
    controls.operator.active = controls.operator.labels.indexOf(state.operator)
    controls.scale.active = ["linear", "log"].indexOf(state.scale)
    controls.knockout.active = ["none", "subtracted", "projected"].indexOf(state.knockout)
    stepper.speed.active = told.speeds.indexOf(state.speed)
    stepper.play.label = state.playing ? "Pause" : "Play"
    controls.message.text = this.message()
    controls.note.text = this.note()
  }

  note() {
    const {state, told} = this
    const part = escape(told.partName)
    if (state.knockout === "subtracted") {
      return `The sticks are the leading eigenvalues of G − ${part}: what is left of the `
        + "outliers when the class part is subtracted. The grey density is still that of G."
    }
    if (state.knockout === "projected") {
      return "The sticks are the leading eigenvalues of G without the directions of all "
        + "class means. The grey density is still that of G."
    }
    return escape(told.notes[state.operator])
  }

  message() {
    const {selected_class: c, selected_outlier: j} = this.state
    const {overlap, classNames, numOutliers} = this.told
    const kind = numOutliers > 0 ? "outlier" : "eigenvector"
    const top = (pairs) => pairs.sort((a, b) => b[1] - a[1]).slice(0, 3)
    if (c >= 0) {
      const best = top(overlap.map((row, n) => [n + 1, row[c] ?? 0]))
      const list = best.map(([n, share]) => `<b>${percent(share)}</b> along ${kind} ${n}`)
      return `Of the class mean of <b>${escape(classNames[c])}</b>, ${list.join(", ")}.`
    }
    if (j >= 0) {
      const best = top((overlap[j] ?? []).map((share, n) => [classNames[n], share]))
      const list = best.map(([name, share]) => `<b>${percent(share)}</b> of ${escape(name)}`)
      return `Along ${kind} ${j + 1} point ${list.join(", ")}.`
    }
    return `Pick a class or an ${kind}, here or in the pictures; Escape clears.`
  }
}

const pairs = (globalThis.workbenchPairs ??= new WeakMap())
if (!pairs.has(state)) {
  pairs.set(state, new LinkedPair({
    state, marks, markViews, spectrum, overlap, stepper, controls, figures, told,
  }))
}
pairs.get(state).handle(cb_obj)
