// The embedding: each level's marks, between where they are and where their mean is.

import { Layer } from "./bokeh.js"
import { Brush } from "./brush.js"
import { clamp, ease, FADED, mix } from "./numbers.js"
import { nearestClass, pixelsPerUnit } from "./picking.js"

/** @import {LinkedPair} from "./pair.js" */
/** @import {Part} from "./types.js" */

// Of each level, awaited and reached.
const SOLID = [
  [0.8, 0.8],
  [0.1, 0.85],
  [0.1, 0.9],
  [0, 0],
]
const OUTLINE = [
  [0, 0],
  [0.75, 1],
  [0.9, 1],
  [0.6, 1],
]
// Of each level, once its average is taken: where they were, still to be pressed.
const GHOST = [0, 0.14, 0.3, 0]
const THREAD = 0.35 // how visible the lines to the means are

const INDICES = ["", "i", "c′", "c"] // averaged over on the way to each level

/** @implements {Part} */
export class Marks {
  /** @type {string[]} */
  drawn = [] // what each level was last drawn from
  /** @type {number[]} */
  placed = [] // how far on its way it was then
  /** @type {Brush[]} */
  brushes = [] // what paints each level, from when it is on the page

  /** @param {LinkedPair} pair */
  constructor(pair) {
    this.pair = pair
    this.models = pair.models.embedding
    /** @type {Part["actions"]} */
    this.actions = {
      embedding: (point) => (point ? this.pick(point) : pair.appear()),
    }
  }

  /** @type {Required<Part>["render"]} */
  render(changed) {
    if (changed.has("selected_class") || changed.has("selected_outlier")) this.draw()
  }

  /** @param {{x: number, y: number}} point */
  pick(point) {
    const { figure, sources, renderers } = this.models
    this.pair.host(figure)?.focus({ preventScroll: true }) // for the keyboard
    const seen = [0, 1, 2].filter((level) => renderers[level].visible)
    const levels = seen.map((level) => ({
      ...sources[level].data,
      radius: renderers[level].glyph.size.value / 2,
    }))
    const found = nearestClass(point, levels, pixelsPerUnit(figure))
    if (found >= 0) this.pair.select({ selected_class: found })
  }

  /**
   * Name the index that is averaged over.
   * @param {number} level On the way to which; below 0: none is.
   */
  nameIndex(level) {
    this.models.averaged.text = level > 0 ? `averaging over ${INDICES[level]}` : ""
  }

  draw() {
    for (const level of this.models.sources.keys()) this.drawLevel(level)
  }

  /**
   * @param {number} level
   * @returns {Brush | undefined}
   */
  brush(level) {
    const known = this.brushes[level]
    if (known?.layer.onPage) return known
    const layer = Layer.of(this.models.figure, this.models.renderers[level])
    if (layer !== null)
      this.brushes[level] = new Brush(this.pair.told.markers, this.models.sources[level], layer)
    return this.brushes[level]
  }

  /** @param {number} level */
  drawLevel(level) {
    const { selected } = this.pair
    const { position } = this.pair.parts.stepper
    const { selected_class, selected_outlier } = this.pair.state
    const source = this.models.sources[level]
    const view = this.models.renderers[level]
    const moved = level === 3 ? 0 : ease(clamp(position - level))
    const reached = level === 0 ? 1 : ease(clamp(position - level + 1))
    const drawn = [moved, reached, selected_class, selected_outlier].join()
    if (drawn === this.drawn[level]) return
    const elsewhere = this.drawn[level] === undefined || this.placed[level] !== moved
    this.drawn[level] = drawn
    this.placed[level] = moved
    const ghost = GHOST[level] * clamp((moved - 0.95) / 0.05)
    view.visible = moved < 1 || ghost > 0
    const leaving = 1 - clamp((moved - 0.9) / 0.1)
    const [solid, outline] = [SOLID, OUTLINE].map(
      (look) => mix(look[level][0], look[level][1], reached) * leaving,
    )
    const weights = Float64Array.from(this.pair.classWeights(), (weight) => mix(FADED, 1, weight))
    const { x, y, home_x, home_y, target_x, target_y, c, stays, fill_alpha, line_alpha } = source.data
    const rest = 1 - moved
    const overall = selected ? 0.3 : 1
    for (let row = 0; row < c.length; row++) {
      const staying = stays[row] === 1 // it has no part in the next average
      const weight = c[row] < 0 ? overall : weights[c[row]]
      const alpha = staying && ghost === 0 ? weight * rest : weight
      const way = staying || ghost > 0 ? 0 : moved
      x[row] = home_x[row] * (1 - way) + target_x[row] * way
      y[row] = home_y[row] * (1 - way) + target_y[row] * way
      fill_alpha[row] = (ghost || solid) * alpha
      line_alpha[row] = (ghost || outline) * alpha
    }
    this.paint(level, moved, elsewhere)
  }

  /**
   * Bokeh is told of new places when the marks are at rest, to find the one that is
   * pointed at.
   * @param {number} level
   * @param {number} moved
   * @param {boolean} elsewhere
   */
  paint(level, moved, elsewhere) {
    const brush = this.brush(level)
    if (brush) brush.threads = THREAD * Math.min(1, 8 * moved, 3 * (1 - moved))
    const resting = Number.isInteger(moved) && !this.pair.parts.film.moving
    if (brush === undefined) this.models.sources[level].change.emit()
    else if (level > 0 || (resting && elsewhere)) brush.tell()
    else brush.repaint()
  }
}
