// The film: earlier epochs of the run. A moment's numbers, or those between two of them,
// are put where those of the study itself stood, and all is drawn as ever: the stepper,
// the selection and the knock-out work at every epoch.

import { buttonIn, labelGroup, labelSlider, slide, textIn } from "./bokeh.js"
import { blended, unpacked } from "./curves.js"
import { number } from "./formats.js"
import { allBetween, between, calm, clamp, ease, mix } from "./numbers.js"
import { advance } from "./stepping.js"

/** @import {LinkedPair} from "./pair.js" */
/** @import {Eigenvalues, Frame, Moment, MomentWords, Part, Source} from "./types.js" */

const MOMENT_SECONDS = 1.3 // from one moment to the next, at speed 1
const REST_SECONDS = 0.6 // at each of them, while playing

/** @implements {Part} */
export class Film {
  frame = 0 // of requestAnimationFrame; 0: at rest
  /** @type {Moment[]} */
  moments = []

  /** @param {LinkedPair} pair */
  constructor(pair) {
    this.pair = pair
    this.models = pair.models.film
    const { models } = this
    this.last = models.moments.length // the study itself
    this.position = this.target = this.settled = this.railed = this.last
    /** @type {Part["actions"]} */
    this.actions = {
      stops: () => this.jump(models.stops.active),
      rail: () => this.drag(models.rail.value),
      roll: () => pair.state.setv({ rolling: !pair.state.rolling }),
    }
    if (this.last > 0) this.moments = [...models.moments.map(unpacked), this.present()]
  }

  /**
   * What is drawn now, as a moment.
   * @returns {Moment}
   */
  present() {
    const { embedding, spectrum } = this.pair.models
    const parts = Object.entries(spectrum.parts).map(([role, { data }]) => [role, data.value])
    return {
      homes: embedding.sources.map(({ data: { home_x, home_y } }) => ({
        x: Float32Array.from(home_x),
        y: Float32Array.from(home_y),
      })),
      eigenvalues: copied(spectrum.eigenvalues),
      parts: Object.fromEntries(parts),
      curves: copied(spectrum.curves),
      frames: { ...spectrum.frames },
    }
  }

  get moving() {
    return this.frame !== 0
  }

  /** @type {Required<Part>["render"]} */
  render(changed) {
    if (this.last === 0) return
    const { state } = this.pair
    if (changed.has("rolling")) this.roll(state.rolling)
    else if (changed.has("moment") && this.wanted !== this.target) this.go(this.wanted)
    if (changed.has("operator") || changed.has("scale")) this.placeSpectrum(false)
    this.models.roll.label = state.rolling ? "Pause training" : "Play training"
  }

  get wanted() {
    const { moment } = this.pair.state
    return moment < 0 ? this.last : clamp(moment, 0, this.last)
  }

  /**
   * Bokeh tells of a change when we are done, so what we wrote is known by its value.
   * @param {number} moment
   */
  jump(moment) {
    if (moment === this.settled) return // it only shows where we are
    this.pair.note({ rolling: false })
    this.models.roll.label = "Play training"
    this.go(moment)
  }

  /** @param {number} moment */
  go(moment) {
    this.target = moment
    this.pair.note({ moment: moment === this.last ? -1 : moment })
    if (calm()) {
      this.position = moment
      this.draw()
      this.settle()
    } else this.run()
  }

  /** @param {number} value */
  drag(value) {
    if (value === this.railed || Math.abs(value - this.position) < 0.006) return // likewise
    this.position = this.target = value
    const moment = Math.round(value)
    this.pair.note({ rolling: false, moment: moment === this.last ? -1 : moment })
    this.draw()
    this.settle()
  }

  /** @param {boolean} rolling */
  roll(rolling) {
    if (!rolling) {
      this.go(Math.round(this.position))
      return
    }
    if (this.position >= this.last) {
      this.position = this.target = 0
      this.draw()
      this.settle()
    }
    this.go(Math.floor(this.position) + 1)
  }

  run() {
    if (this.frame !== 0) return
    let before = performance.now()
    let rested = 0
    /** @param {number} now */
    const tick = (now) => {
      this.frame = 0
      const { state, onPage } = this.pair
      if (!onPage) return
      const seconds = clamp((now - before) / 1000, 0, 0.1) * state.speed
      before = now
      const left = this.target - this.position
      if (left !== 0) {
        const stride = (seconds / MOMENT_SECONDS) * Math.max(1, Math.abs(left))
        this.position = advance(this.position, this.target, stride)
        const arrived = this.position === this.target
        if (!arrived) this.frame = -1 // still moving
        this.draw()
        this.frame = 0
        if (arrived) this.settle()
      } else if (!state.rolling) {
        return
      } else if (this.position >= this.last) {
        state.setv({ rolling: false })
        return
      } else {
        rested += seconds
        if (rested > REST_SECONDS) {
          rested = 0
          this.go(Math.round(this.position) + 1)
        }
      }
      if (this.frame === 0) this.frame = requestAnimationFrame(tick)
    }
    this.frame = requestAnimationFrame(tick)
  }

  // ---- what it puts in its place ---------------------------------------------------

  /**
   * The moments on either side of where we are, and how far it is between them.
   * @returns {[Moment, Moment, number]}
   */
  get place() {
    const at = Math.min(Math.floor(this.position), this.last)
    const t = this.position - at
    return [this.moments[at], this.moments[Math.min(at + 1, this.last)], ease(t)]
  }

  draw() {
    this.placeMarks()
    this.placeSpectrum(true)
    this.drawRail()
  }

  placeMarks() {
    const [from, to, t] = this.place
    const { sources, parents } = this.pair.models.embedding
    sources.forEach(({ data }, level) => {
      const [a, b] = [from.homes[level], to.homes[level]]
      for (let row = 0; row < a.x.length; row++) {
        data.home_x[row] = a.x[row] * (1 - t) + b.x[row] * t
        data.home_y[row] = a.y[row] * (1 - t) + b.y[row] * t
      }
    })
    sources.forEach(({ data }, level) => {
      const above = sources[level + 1]?.data
      for (let row = 0; row < parents[level].length; row++) {
        const parent = parents[level][row]
        data.target_x[row] = parent < 0 ? data.home_x[row] : above.home_x[parent]
        data.target_y[row] = parent < 0 ? data.home_y[row] : above.home_y[parent]
      }
    })
    const { marks } = this.pair.parts
    marks.drawn = []
    marks.draw()
  }

  /** @param {boolean} drawn Whether to draw it too. */
  placeSpectrum(drawn) {
    const [from, to, t] = this.place
    const { spectrum } = this.pair.models
    const view = this.pair.parts.spectrum
    const { operator, scale } = this.pair.state
    for (const [name, { data }] of Object.entries(spectrum.eigenvalues)) {
      for (const column of COLUMNS) {
        const [a, b] = [from.eigenvalues[name][column], to.eigenvalues[name][column]]
        if (a && b) data[column] = t === 0 ? a : allBetween(a, b, t)
      }
    }
    for (const [role, { data }] of Object.entries(spectrum.parts)) {
      const [a, b] = [from.parts[role], to.parts[role]]
      data.value = t === 0 ? a : allBetween(a, b, t)
      data.told = Array.from(data.value, number)
    }
    for (const [key, source] of Object.entries(spectrum.curves)) {
      const seen = key.endsWith(scale) && (operator === "all" || key.startsWith(`${operator}/`))
      if (t === 0) source.data = from.curves[key]
      else if (seen) source.data = blended(from.curves[key], to.curves[key], t)
    }
    for (const key of Object.keys(spectrum.frames)) {
      spectrum.frames[key] = framed(from.frames[key], to.frames[key], t)
    }
    if (!drawn) return
    if (view.removed !== null) view.removed = Float64Array.from(view.goal)
    view.drawFrame()
    view.drawSticks()
    view.drawParts()
    view.drawCut(true)
    this.pair.parts.compare.drawSpectrum()
  }

  // ---- what it says ----------------------------------------------------------------

  get nearest() {
    return Math.round(this.position)
  }

  // On the way only elements are changed: each change of a widget lays the page out anew.
  drawRail() {
    const { models, nearest, position, pair } = this
    const text = models.texts[nearest].when
    const when = textIn(pair.element(models.when))
    if (when && when.innerHTML !== text) when.innerHTML = text
    if (!this.moving || !slide(pair.element(models.rail), position)) {
      this.railed = position
      models.rail.value = position
    }
  }

  // Tables and texts are about the nearest moment.
  settle() {
    const { models, nearest, pair } = this
    if (nearest === this.settled) return
    this.settled = nearest
    const text = models.texts[nearest]
    const { told } = pair
    models.when.text = text.when
    models.stops.active = nearest
    told.automatic = text.automatic
    told.rule = text.rule
    told.notes = text.notes
    told.overlap = told.overlap.map((row, j) => text.overlap[j] ?? row.map(() => 0))
    told.span = told.span.map((_, j) => text.span[j] ?? 0)
    this.settleTable(text)
    this.settleStations(text)
    const { outliers } = pair.models.controls
    const chip = (/** @type {number} */ j) => text.chips[j] ?? "–"
    outliers.labels = outliers.labels.map((label, j) =>
      label.includes("λ") ? `${j + 1}   λ ${chip(j)}` : label,
    )
    Object.assign(told.titles, text.titles)
    told.titles.outliers = told.titles.outliers.map((title, j) =>
      title.replace(/λ = [^:]*/, `λ = ${chip(j)}`),
    )
    /** @type {NodeListOf<HTMLElement>} */
    const sentences = (pair.parts.look.page ?? new DocumentFragment()).querySelectorAll("[data-moment]")
    for (const words of sentences) words.hidden = Number(words.dataset.moment) !== nearest
    pair.parts.controls.render()
    pair.parts.strip.draw()
    pair.parts.walk.draw()
    pair.parts.spectrum.drawSticks()
    pair.parts.spectrum.drawCut(true)
    pair.dress()
  }

  /** @param {MomentWords} text */
  settleTable({ span, bands }) {
    this.pair.models.overlap.bands.data = bands
    const { data } = this.pair.models.overlap.cells
    const numbers = data.text[0] !== ""
    for (let cell = 0; cell < data.value.length; cell++) {
      const [c, j] = [data.c[cell], data.j[cell]]
      data.value[cell] = clamp(c < 0 ? (span[j] ?? 0) : this.pair.told.overlap[j][c])
      if (c < 0) this.pair.parts.table.placeBar(cell)
      if (numbers) data.text[cell] = (100 * data.value[cell]).toFixed(0)
    }
    this.pair.parts.table.draw()
    this.pair.parts.table.drawEdge()
  }

  /** @param {MomentWords} text */
  settleStations({ kept, sentences }) {
    const { stepper } = this.pair.models
    const view = this.pair.parts.stepper
    stepper.sentences = sentences
    stepper.kept = kept
    view.drawStations()
    view.drawCurve()
    kept.forEach((share, level) => {
      view.writeStation(level, share)
    })
  }

  dress() {
    if (this.last === 0) return
    const { models, pair } = this
    const { titles, labels } = pair.told
    const epochs = models.texts.map(({ when }) => when.replace(/<.*?>/g, ""))
    labelGroup(pair.element(models.stops), models.stops.active, labels.stops, epochs)
    labelSlider(pair.element(models.rail), labels.rail)
    const button = buttonIn(pair.element(models.roll))
    if (button) button.title = titles.roll
  }
}

/** @type {Exclude<keyof Eigenvalues, "name">[]} */
const COLUMNS = ["value", "residual", "subtracted", "projected"]

/**
 * What the sources hold, apart from them.
 * @template {object} Data
 * @param {Record<string, Source<Data>>} sources
 * @returns {Record<string, Data>}
 */
const copied = (sources) =>
  Object.fromEntries(Object.entries(sources).map(([name, { data }]) => [name, { ...data }]))

/**
 * Ranges and smoothing between those of two moments.
 * @param {Frame} a
 * @param {Frame} b
 * @param {number} t
 * @returns {Frame}
 */
const framed = (a, b, t) => {
  if (t === 0) return a
  return {
    ...(t < 0.5 ? a : b),
    x: [between(a.x[0], b.x[0], t), between(a.x[1], b.x[1], t)],
    y: [mix(a.y[0], b.y[0], t), mix(a.y[1], b.y[1], t)],
    width: between(a.width, b.width, t),
    bump: between(a.bump, b.bump, t),
    lowest: between(a.lowest, b.lowest, t),
  }
}
