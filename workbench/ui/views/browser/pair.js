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

import { Bar } from "./bar.js"
import { buttonIn, holdStill, inOneSentence, lacking, lackingOf, shadowOf, textIn } from "./bokeh.js"
import { Compare } from "./compare.js"
import { Controls } from "./controls.js"
import { Film } from "./film.js"
import { Look } from "./look.js"
import { Marks } from "./marks.js"
import { greatest } from "./numbers.js"
import { Said } from "./said.js"
import { Spectrum } from "./spectrum.js"
import { Stepper } from "./stepper.js"
import { Strip } from "./strip.js"
import { Table } from "./table.js"
import { Tour } from "./tour.js"
import { Walk } from "./walk.js"

/** @import {Action, Figure, Model, ModelEvent, Models, Part, State, StateName, StateValues, Told} from "./types.js" */

const DRAWN = "workbench-drawn" // said to all pairs of the page when one more is drawn

export class LinkedPair {
  /** @type {Record<string, string>} */
  colors = {} // of the theme that is on, by role
  /** @type {string[]} */
  classColors = []
  lineScale = 1 // how much thicker than usual its marks are
  /** @type {Map<Model, ShadowRoot | undefined>} */
  elements = new Map()

  /**
   * @param {State} state
   * @param {Models} models
   * @param {Told} told
   */
  constructor(state, models, told) {
    this.state = state
    this.models = models
    this.told = told
    this.shown = { ...told.initial } // the state as it was last drawn
    this.parts = {
      stepper: new Stepper(this),
      film: new Film(this),
      marks: new Marks(this),
      spectrum: new Spectrum(this),
      compare: new Compare(this),
      table: new Table(this),
      strip: new Strip(this),
      walk: new Walk(this),
      controls: new Controls(this),
      look: new Look(this),
      bar: new Bar(this),
      tour: new Tour(this),
      said: new Said(this),
    }
    this.actions = actionsFor(told.wired, this.allParts)
    /** @param {KeyboardEvent} event */
    this.onKey = (event) => this.key(event)
    /** @param {Event} event */
    this.onDrawn = (event) => {
      const { detail } = /** @type {CustomEvent<LinkedPair>} */ (event)
      if (detail.told.before.id === this.state.id) detail.follow(this.state)
      if (!this.onPage) this.leave()
    }
  }

  /** @returns {Part[]} */
  get allParts() {
    return Object.values(this.parts)
  }

  // Take the place of another, which hands over and lets go.
  enter() {
    document.dispatchEvent(new CustomEvent(DRAWN, { detail: this }))
    document.addEventListener("keydown", this.onKey)
    document.addEventListener(DRAWN, this.onDrawn)
  }

  /**
   * What a person changed there after Python had taken it over.
   * @param {State} state
   */
  follow(state) {
    const { taken = {}, operators = [] } = this.told.before
    const names = /** @type {StateName[]} */ (Object.keys(taken))
    const late = names.filter((name) => state[name] !== taken[name])
    /** @type {Partial<StateValues>} */
    const values = Object.fromEntries(late.map((name) => [name, state[name]]))
    if (!operators.includes(values.operator ?? "G")) delete values.operator
    this.state.setv(values)
  }

  // Let go of the page, so that what was drawn can be forgotten.
  leave() {
    document.removeEventListener("keydown", this.onKey)
    document.removeEventListener(DRAWN, this.onDrawn)
    for (const part of this.allParts) part.leave?.()
  }

  /** @param {Model | ModelEvent} origin The model that has changed, or what was done to it. */
  handle(origin) {
    const event = "event_name" in origin ? origin : null
    const model = "event_name" in origin ? origin.origin : origin
    if (model === this.state) return this.render()
    const [name, index] = String(model.name).split(" ")
    this.actions[name](event, Number(index))
  }

  // The pictures are on the page now.
  appear() {
    const missing = lackingOf(this.figures)
    if (missing.length > 0) throw new Error(inOneSentence(missing))
    for (const figure of this.figures) holdStill(figure)
    this.parts.look.apply()
    for (const part of this.allParts) part.appear?.()
    this.render() // what the state was before there was anything to draw
    this.dress()
  }

  /** @returns {Figure[]} */
  get figures() {
    const { embedding, spectrum, overlap, compare } = this.models
    return [embedding.figure, spectrum.figure, overlap.figure, ...(compare ? [compare.plot] : [])]
  }

  render() {
    const { state, shown } = this
    const names = /** @type {StateName[]} */ (Object.keys(shown))
    const changed = new Set(names.filter((name) => state[name] !== shown[name]))
    if (changed.size === 0) return
    for (const name of changed) Object.assign(shown, { [name]: state[name] })
    for (const part of this.allParts) part.render?.(changed)
    this.dress()
  }

  // What Bokeh's widgets leave unsaid to a screen reader.
  dress() {
    for (const part of this.allParts) part.dress?.()
  }

  /**
   * Write into the state what is drawn already, or is being drawn.
   * @param {Partial<StateValues>} values
   */
  note(values) {
    Object.assign(this.shown, values)
    this.state.setv(values)
  }

  // Whether no other study took this one's place. (Its models outlive that a while.)
  get onPage() {
    return this.host(this.models.embedding.figure)?.isConnected ?? false
  }

  /**
   * The shadow tree that a model is drawn in. Looking it up is slow, so it is kept.
   * @param {Model} model
   */
  element(model) {
    let found = this.elements.get(model)
    if (!found?.host.isConnected) {
      found = shadowOf(model)
      this.elements.set(model, found)
    }
    return found
  }

  /**
   * What that tree hangs on.
   * @param {Model} model
   */
  host(model) {
    return /** @type {HTMLElement | undefined} */ (this.element(model)?.host)
  }

  /**
   * A change of a Bokeh widget lays the whole page out anew and paints all of it, which
   * takes longer than a frame; its elements are changed alone, and the model told so.
   * @param {Model & {text: string}} model
   * @param {string} text
   */
  write(model, text) {
    if (model.text === text) return
    const place = textIn(this.element(model))
    model.setv({ text }, { silent: place !== undefined })
    if (place) place.innerHTML = text
  }

  /**
   * The same of a button.
   * @param {Model & {disabled: boolean}} model
   * @param {boolean} disabled
   */
  disable(model, disabled) {
    if (model.disabled === disabled) return
    const place = buttonIn(this.element(model))
    model.setv({ disabled }, { silent: place !== undefined })
    if (place) place.disabled = disabled
  }

  get selected() {
    return this.state.selected_class >= 0 || this.state.selected_outlier >= 0
  }

  // How many outliers of G there are, by the rule or by who looks.
  get numOutliers() {
    const { num_outliers } = this.state
    return num_outliers < 0 ? this.told.automatic : num_outliers
  }

  /** @param {number} count */
  countOutliers(count) {
    this.state.setv({ num_outliers: count === this.told.automatic ? -1 : count })
  }

  /** @param {number} j */
  rank(j) {
    return `${j < this.numOutliers ? "outlier" : "eigenvector"} ${j + 1}`
  }

  /**
   * One thing is selected at a time; selecting it again clears it.
   * @param {{selected_class?: number, selected_outlier?: number}} picked
   */
  select({ selected_class: c = -1, selected_outlier: j = -1 }) {
    const { state } = this
    const again = c === state.selected_class && j === state.selected_outlier
    const [selected_class, selected_outlier] = again ? [-1, -1] : [c, j]
    // Overlaps were measured for G, so an outlier is one of G's.
    const operator = selected_outlier < 0 || state.operator === "all" ? state.operator : "G"
    state.setv({ selected_class, selected_outlier, operator })
  }

  /**
   * How much each class matters to what is selected; 1 where nothing is.
   * @returns {number[]}
   */
  classWeights() {
    const { selected_class, selected_outlier } = this.state
    const { overlap, classNames } = this.told
    if (selected_class >= 0) return classNames.map((_, c) => Number(c === selected_class))
    if (selected_outlier < 0) return classNames.map(() => 1)
    const row = overlap[selected_outlier]
    const most = greatest(row)
    return row.map((share) => share / most)
  }

  /**
   * Escape clears from anywhere; the other keys only where the pictures have the focus, and
   * what has it does not need the key for itself.
   * @param {KeyboardEvent} event
   */
  key(event) {
    if (!this.onPage) return this.leave()
    if (event.key === "Escape") return this.state.setv({ selected_class: -1, selected_outlier: -1 })
    const path = event.composedPath()
    const root = this.host(this.models.look.layout)
    if (root === undefined || !path.includes(root) || event.ctrlKey || event.metaKey || event.altKey) return
    /** @param {string} kinds */
    const on = (kinds) => path[0] instanceof Element && path[0].matches(kinds)
    if (on("input, select, textarea, [role=slider]")) return
    const { stepper } = this.parts
    if (event.key === "ArrowRight") stepper.jump(stepper.next(1))
    else if (event.key === "ArrowLeft") stepper.jump(stepper.next(-1))
    else if (event.key === " " && !on("button, a, summary")) stepper.toggle()
    else return
    event.preventDefault()
  }
}

/**
 * What each control does, by its name.
 * @param {string[]} wired Names of the controls that ask.
 * @param {Pick<Part, "actions">[]} parts
 * @returns {Record<string, Action>}
 */
export const actionsFor = (wired, parts) => {
  const actions = Object.assign({}, ...parts.map((part) => part.actions))
  const unknown = wired.filter((name) => !Object.hasOwn(actions, name))
  if (unknown.length > 0) {
    throw new Error(
      `Nothing answers to the control ${unknown.map((name) => `“${name}”`).join(", ")}: ` +
        "give one of the parts in browser/ an action of that name, or the model no name.",
    )
  }
  return actions
}

/** @throws {Error} A sentence, if this BokehJS will not do. */
export const demandBokeh = () => {
  const missing = lacking()
  if (missing.length > 0) throw new Error(inOneSentence(missing))
}
