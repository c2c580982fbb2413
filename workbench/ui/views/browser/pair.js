// The browser's half of the linked pair (linked.py): one controller for each LinkState.
//
// A control asks through `handle`, which looks the action up by the control's name; it
// writes the state, and a change of the state, from here or from Python, is drawn by the
// `render` of each part. So the state is the one source of truth, and every path may be
// taken twice without harm. Nothing is measured or computed anew here: marks and sticks
// are only placed between places that Python gave.
//
// A part is a class in a file of its own: `actions` holds what the models of a name ask
// for ("station 2" asks `station`, index 2), `render(changed)` draws what hangs on the
// properties of the state whose names are in `changed`.

const PARTS = {stepper: Stepper, film: Film, marks: Marks, spectrum: Spectrum, compare: Compare, table: Table,
  controls: Controls, look: Look, bar: Bar, tour: Tour}

const DRAWN = "workbench-drawn" // said to all pairs of the page when one more is drawn

class LinkedPair {
  constructor(state, models, told) {
    Object.assign(this, {state, models, told})
    this.shown = {...told.initial} // the state as it was last drawn
    this.parts = {}
    for (const [name, Part] of Object.entries(PARTS)) this.parts[name] = new Part(this)
    this.actions = Object.assign({}, ...Object.values(this.parts).map((part) => part.actions))
  }

  // Take the place of another, which hands over and lets go.
  enter() {
    document.dispatchEvent(new CustomEvent(DRAWN, {detail: this}))
    this.onKey = (event) => this.key(event)
    this.onDrawn = ({detail}) => {
      if (detail.told.before.id === this.state.id) detail.follow(this.state)
      if (!this.onPage) this.leave()
    }
    document.addEventListener("keydown", this.onKey)
    document.addEventListener(DRAWN, this.onDrawn)
  }

  // What a person changed there after Python had taken it over.
  follow(state) {
    const {taken, operators} = this.told.before
    const late = Object.keys(taken).filter((key) => state[key] !== taken[key])
    const values = Object.fromEntries(late.map((key) => [key, state[key]]))
    if (!operators.includes(values.operator ?? "G")) delete values.operator
    this.state.setv(values)
  }

  // Let go of the page, so that what was drawn can be forgotten.
  leave() {
    document.removeEventListener("keydown", this.onKey)
    document.removeEventListener(DRAWN, this.onDrawn)
    for (const part of Object.values(this.parts)) part.leave?.()
  }

  handle(origin) {
    const event = origin.event_name === undefined ? null : origin
    const model = event ? event.origin : origin
    if (model === this.state) return this.render()
    const [name, index] = model.name.split(" ")
    this.actions[name](model, {event, index: Number(index)})
  }

  // The pictures are on the page now.
  appear() {
    const views = Object.values(this.models).flatMap((view) => Object.values(view))
    for (const model of views.filter(({type}) => type === "Figure")) holdStill(Bokeh.index.find_one(model))
    this.parts.look.apply()
    this.parts.compare.appear()
    this.render() // what the state was before there was anything to draw
    this.dress()
  }

  render() {
    const {state, shown} = this
    const changed = new Set(Object.keys(shown).filter((key) => state[key] !== shown[key]))
    if (changed.size === 0) return
    for (const key of changed) shown[key] = state[key]
    for (const part of Object.values(this.parts)) part.render?.(changed)
    this.dress()
  }

  // What Bokeh's widgets leave unsaid to a screen reader.
  dress() {
    for (const part of Object.values(this.parts)) part.dress?.()
  }

  // Write into the state what is drawn already, or is being drawn.
  note(values) {
    Object.assign(this.shown, values)
    this.state.setv(values)
  }

  // Whether no other study took this one's place. (Its models outlive that a while.)
  get onPage() {
    return this.element(this.models.embedding.figure)?.host.isConnected ?? false
  }

  // The shadow tree that a model is drawn in. Looking it up is slow, so it is kept.
  element(model) {
    this.elements ??= new Map()
    let found = this.elements.get(model)
    if (!found?.host.isConnected) {
      found = Bokeh.index.find_one(model)?.shadow_el
      this.elements.set(model, found)
    }
    return found
  }

  // A change of a Bokeh widget lays the whole page out anew and paints all of it, which
  // takes longer than a frame; its elements are changed alone, and the model told so.
  write(model, text) {
    this.quietly(model, {text}, ".bk-clearfix", (place) => { place.innerHTML = text })
  }

  disable(model, disabled) {
    this.quietly(model, {disabled}, "button", (button) => { button.disabled = disabled })
  }

  quietly(model, values, where, change) {
    if (Object.entries(values).every(([name, value]) => model[name] === value)) return
    const place = this.element(model)?.querySelector(where)
    model.setv(values, {silent: place != null})
    if (place) change(place)
  }

  get selected() {
    return this.state.selected_class >= 0 || this.state.selected_outlier >= 0
  }

  // How many outliers of G there are, by the rule or by who looks.
  get numOutliers() {
    const {num_outliers} = this.state
    return num_outliers < 0 ? this.told.automatic : num_outliers
  }

  countOutliers(count) {
    this.state.setv({num_outliers: count === this.told.automatic ? -1 : count})
  }

  rank(j) {
    return `${j < this.numOutliers ? "outlier" : "eigenvector"} ${j + 1}`
  }

  // One thing is selected at a time; selecting it again clears it.
  select({selected_class = -1, selected_outlier = -1}) {
    const {state} = this
    if (selected_class === state.selected_class && selected_outlier === state.selected_outlier) {
      selected_class = selected_outlier = -1
    }
    // Overlaps were measured for G, so an outlier is one of G's.
    const operator = selected_outlier < 0 || state.operator === "all" ? state.operator : "G"
    state.setv({selected_class, selected_outlier, operator})
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

  // Escape clears from anywhere; the other keys only where the pictures have the focus, and
  // what has it does not need the key for itself.
  key(event) {
    if (!this.onPage) return this.leave()
    if (event.key === "Escape") return this.state.setv({selected_class: -1, selected_outlier: -1})
    const path = event.composedPath()
    const root = this.element(this.models.look.layout)?.host
    const busy = path[0].matches?.("input, select, textarea, [role=slider]")
    if (!path.includes(root) || busy || event.ctrlKey || event.metaKey || event.altKey) return
    const {stepper} = this.parts
    if (event.key === "ArrowRight") stepper.jump(stepper.next(1))
    else if (event.key === "ArrowLeft") stepper.jump(stepper.next(-1))
    else if (event.key === " " && !path[0].matches?.("button, a, summary")) stepper.toggle()
    else return
    event.preventDefault()
  }
}

globalThis.workbenchPairs ??= new WeakMap()
const pair = new LinkedPair(state, models, told)
globalThis.workbenchPairs.set(state, pair)
pair.enter()
pair.render() // what Python asked for before anyone saw it
pair.handle(cb_obj)
