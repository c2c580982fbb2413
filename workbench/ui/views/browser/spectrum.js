// The spectrum: axes, density, sticks, the parts of G, and the class part taken away.

import { number, percent, withError } from "./formats.js"
import { calm, clamp, ease, greatest, mix } from "./numbers.js"
import { nearestStick, pixelsPerUnit } from "./picking.js"
import { carriedAt } from "./stepping.js"

/** @import {LinkedPair} from "./pair.js" */
/** @import {Numbers, Part, PartSticks, StateName, Sticks} from "./types.js" */

const KNOCK_SECONDS = 0.9
const STRIDE = 0.08 // of the stepper between two drawings: it moves more often than needed here
const LABEL_WIDTH = 40 // pixels that the number upon a stick takes
const OF_CLASSES = ["class", "collapse"] // the class part, and what is predicted of it

/**
 * Where a value stands on the eigenvalue axis; `position` in axis.py is the same.
 * @param {number} value
 * @param {string} scale
 * @param {number} floor The log axis starts at 10^floor on either side.
 */
export const placeOn = (value, scale, floor) => {
  if (scale === "linear") return value
  return Math.sign(value) * (Math.log10(Math.max(Math.abs(value), 10 ** floor)) - floor)
}

/**
 * Between the last outlier and the next eigenvalue.
 * @param {Numbers} value Eigenvalues, falling.
 * @param {number} count
 */
export const cutAt = (value, count) => {
  if (count === 0) return 1.02 * value[0]
  return count >= value.length ? 0 : (value[count - 1] + value[count]) / 2
}

/** @implements {Part} */
export class Spectrum {
  removing = 0 // of requestAnimationFrame, for the knock-out
  /** @type {Numbers | null} */
  removed = null // where the sticks of G are, knocked out so far
  stood = 0 // where the stepper was at the last drawing
  drawing = false // whether the cut is only being put where it belongs

  /** @param {LinkedPair} pair */
  constructor(pair) {
    this.pair = pair
    this.models = pair.models.spectrum
    /** @type {Part["actions"]} */
    this.actions = {
      spectrum: (point) => point && this.pick(point),
      cut: () => this.dragCut(this.models.cut.location),
    }
  }

  /** @type {Required<Part>["render"]} */
  render(changed) {
    /** @param {StateName[]} names */
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
    const { operator } = this.pair.state
    return operator === "all" ? "G" : operator
  }

  // The ranges and axis labels that are seen.
  get frame() {
    const { operator, scale } = this.pair.state
    return this.models.frames[`${operator}/${scale}`]
  }

  appear() {
    this.drawSticks()
    this.drawParts()
    this.drawCut(true)
  }

  repaint() {
    this.drawSticks()
  }

  /** @param {{x: number, y: number}} point */
  pick(point) {
    if (this.operator !== "G") return
    const { figure, sticks } = this.models
    const many = this.pair.told.overlap.length
    const found = nearestStick(point, sticks.data, many, pixelsPerUnit(figure))
    if (found >= 0) this.pair.select({ selected_outlier: found })
  }

  /** @param {number} value */
  place(value) {
    return placeOn(value, this.pair.state.scale, this.models.floor)
  }

  drawFrame() {
    const { operator, scale } = this.pair.state
    const { axes, curves, curve, beside, figure } = this.models
    const { x, y, x_label, y_label } = this.frame
    const { ticker, format } = axes[scale]
    const { x_range, y_range, below, left } = figure
    x_range.setv({ start: x[0], end: x[1], reset_start: x[0], reset_end: x[1] })
    y_range.setv({ start: y[0], end: y[1], reset_start: y[0], reset_end: y[1] })
    below[0].setv({ axis_label: x_label, ticker, formatter: format })
    left[0].axis_label = y_label
    const { x: grid, y: density, low, high } = curves[`${this.operator}/${scale}`].data
    const base = new Float32Array(grid.length).fill(y[0])
    curve.data = { x: grid, y: density, low, high, base }
    for (const [name, source] of Object.entries(beside)) {
      const { x, y } = operator === "all" ? curves[`${name}/${scale}`].data : { x: [], y: [] }
      source.data = { x, y }
    }
    if (this.removed !== null && this.operator === "G") this.drawDensity()
  }

  // Where the sticks of G are going, for what is taken away.
  get goal() {
    const { data } = this.models.eigenvalues.G
    const { knockout } = this.pair.state
    const columns = { none: data.value, subtracted: data.subtracted, projected: data.projected }
    return columns[/** @type {keyof typeof columns} */ (knockout)] ?? data.value
  }

  // Let the sticks travel to where they stand without the class part.
  removeSticks() {
    const { data } = this.models.eigenvalues.G
    const { knockout } = this.pair.state
    const start = this.removed ?? data.value
    const begin = performance.now()
    cancelAnimationFrame(this.removing)
    /** @param {number} now */
    const tick = (now) => {
      const t = calm() ? 1 : clamp((now - begin) / 1000 / KNOCK_SECONDS)
      // The film may move the goal.
      this.removed = Float64Array.from(this.goal, (value, j) => mix(start[j], value, ease(t)))
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
    const { scale } = this.pair.state
    const { curves, curve, eigenvalues, frames } = this.models
    const { x, y, rest } = curves[`G/${scale}`].data
    if (rest === undefined) return
    const { width, bump, lowest } = frames[`G/${scale}`]
    const places = Array.from(this.removed ?? eigenvalues.G.data.value, (v) => this.place(v))
    const density = Float32Array.from(x, (at, n) => {
      if (this.removed === null || Number.isNaN(rest[n])) return y[n]
      let total = rest[n]
      for (const place of places) {
        const z = (at - place) / width
        if (Math.abs(z) < 8) total += bump * Math.exp(-0.5 * z * z)
      }
      return Math.log10(Math.max(total, lowest))
    })
    curve.data = { ...curve.data, y: density, low: density, high: density }
  }

  drawSticks() {
    const { state, told, selected, numOutliers, colors, classColors, lineScale } = this.pair
    const { knockout, selected_class: c, selected_outlier: picked } = state
    const stored = this.models.eigenvalues[this.operator].data
    const ofG = this.operator === "G"
    const values = Array.from((ofG && this.removed) || stored.value)
    const knocked = ofG && knockout !== "none"
    const [bottom, top] = this.frame.y
    const linked = ofG && selected
    const most = greatest(told.overlap.map((row) => row[c] ?? 0))
    // From the class means on, a stick fades as far as it lies outside their span.
    const averaged = ofG && !knocked && !linked ? clamp(this.pair.parts.stepper.position - 1) : 0
    const thin = values.length > 40 ? 0.5 : 1
    /** @type {Sticks} */
    const sticks = {
      ...{ x: [], low: [], high: [], base: [], top: [], color: [] },
      ...{ alpha: [], width: [], size: [], label: [], name: [], told: [] },
    }
    values.forEach((value, j) => {
      const residual = knocked ? 0 : stored.residual[j]
      const outlier = ofG && j < numOutliers
      const share = told.overlap[j]?.[c] ?? 0
      const weight = c >= 0 ? share / most : Number(j === picked)
      const height = told.stickTop * (linked ? mix(0.75, 1.25, weight) : 1)
      sticks.x.push(this.place(value))
      sticks.low.push(this.place(value - residual))
      sticks.high.push(this.place(value + residual))
      sticks.base.push(bottom)
      sticks.top.push(bottom + height * (top - bottom))
      sticks.color.push(linked ? (c >= 0 ? classColors[c] : colors.accent) : colors.ink)
      const light = mix(1, mix(0.2, 1, told.span[j] ?? 0), averaged)
      sticks.alpha.push(linked ? mix(0.15, 1, weight) : light * (outlier ? 0.95 : 0.5))
      sticks.width.push(lineScale * (linked ? mix(1.2, 6, weight) : thin * (outlier ? 2.4 : 1.6)))
      sticks.size.push(lineScale * (linked ? mix(4, 14, weight) : thin * (outlier ? 9 : 6)))
      sticks.label.push(!linked || weight < 0.1 ? "" : c >= 0 ? percent(share) : String(j + 1))
      sticks.name.push(
        knocked ? `eigenvalue ${j + 1} of what is left` : outlier ? `outlier ${j + 1} of G` : stored.name[j],
      )
      sticks.told.push(withError(value, residual))
    })
    this.thinLabels(sticks)
    this.models.sticks.data = sticks
    const where = Array.from(stored.value, (value) => (knocked ? this.place(value) : Number.NaN))
    this.models.ghosts.data = { x: where, base: sticks.base, top: sticks.top }
    this.drawCarried()
  }

  // The stepper has moved.
  follow() {
    const { position } = this.pair.parts.stepper
    const rests = Number.isInteger(position)
    if (position === this.stood || (!rests && Math.abs(position - this.stood) < STRIDE)) return
    this.drawSticks()
  }

  // Eigenvalues of what each level of averaging keeps; the mean of all has only one.
  get levels() {
    const { eigenvalues, parts } = this.models
    const { kept } = this.pair.models.stepper
    const [means, classes] = ["means", "class"].map((role) => parts[role]?.data.value ?? [])
    const trace = Array.from(classes).reduce((sum, value) => sum + (value || 0), 0) / kept[2]
    return [eigenvalues.G.data.value, means, classes, [kept[3] * trace]]
  }

  // What the averages taken so far keep of each stick, left of it upon a line.
  drawCarried() {
    const { pair, models } = this
    const { position } = pair.parts.stepper
    this.stood = position
    const { value } = models.eigenvalues.G.data
    const shown = position > 0 && this.operator === "G" && pair.state.knockout === "none"
    const many = shown ? Math.min(value.length, pair.told.classNames.length) : 0
    const [bottom, top] = this.frame.y
    const kept = carriedAt(this.levels, position, many)
    models.carried.data = {
      x: kept.map((v) => this.place(v)),
      from: kept.map((v, j) => (Number.isNaN(v) ? v : this.place(value[j]))),
      y: kept.map(() => bottom + pair.told.carriedTop * (top - bottom)),
      told: kept.map((v, j) => `${number(v)}, ${percent(v / value[j])} of the eigenvalue`),
    }
  }

  /**
   * Where two numbers would overlap, the taller stick keeps its own.
   * @param {Sticks} sticks
   */
  thinLabels({ x, top, label }) {
    const [perX, perY] = pixelsPerUnit(this.models.figure)
    const order = [...x.keys()].filter((j) => label[j]).sort((a, b) => top[b] - top[a])
    /** @type {number[]} */
    const kept = []
    for (const j of order) {
      const free = kept.every(
        (k) => Math.abs(x[j] - x[k]) * perX > LABEL_WIDTH || Math.abs(top[j] - top[k]) * perY > 16,
      )
      if (free) kept.push(j)
      else label[j] = ""
    }
  }

  // The parts of G stand upon the spectra that hold them; without it, so does the class part.
  drawParts() {
    for (const [role, source] of Object.entries(this.models.parts)) {
      const taken = OF_CLASSES.includes(role) && this.pair.state.knockout !== "none"
      source.data = this.stand(role, source.data, taken)
    }
  }

  /**
   * The sticks of a part on the axes that are seen, or nowhere.
   * @param {string} role
   * @param {PartSticks} data
   * @param {boolean} taken Whether it is taken away.
   * @returns {PartSticks}
   */
  stand(role, data, taken) {
    const { state, told } = this.pair
    const shown = state.parts.split(",").includes(role) && state.operator !== "H" && !taken
    const [bottom, top] = this.frame.y
    const least = state.scale === "log" ? 10 ** this.models.floor : 0
    return {
      ...data,
      x: Array.from(data.value, (v) => (shown && v >= least ? this.place(v) : Number.NaN)),
      base: Array.from(data.value, () => bottom),
      top: Array.from(data.value, () => bottom + told.partTops[role] * (top - bottom)),
      told: Array.from(data.value, number),
    }
  }

  /**
   * How many eigenvalues of G stand right of a place upon the axis.
   * @param {number} location
   */
  countAbove(location) {
    const { value } = this.models.eigenvalues.G.data
    const count = Array.from(value).findIndex((v) => this.place(v) <= location)
    return count < 0 ? value.length - 1 : count
  }

  /** @param {boolean} reframed */
  drawCut(reframed) {
    const { numOutliers } = this.pair
    const { cut, eigenvalues } = this.models
    cut.visible = this.operator === "G"
    if (!reframed && this.countAbove(cut.location) === numOutliers) return
    this.drawing = true
    cut.location = this.place(cutAt(eigenvalues.G.data.value, numOutliers))
    this.drawing = false
  }

  /** @param {number} location */
  dragCut(location) {
    if (!this.drawing && this.operator === "G") this.pair.countOutliers(this.countAbove(location))
  }
}
