// The overlap table: which row or column is selected.

import { clamp } from "./numbers.js"
import { cellAt } from "./picking.js"

/** @import {LinkedPair} from "./pair.js" */
/** @import {Part} from "./types.js" */

/**
 * Where no cell says its number, small shares are told apart too.
 * @param {number} value
 * @param {number} most Share of the darkest cell; 1 where each says its number.
 */
export const shade = (value, most) => (most === 1 ? value : Math.sqrt(clamp(value / most)))

/** @implements {Part} */
export class Table {
  /** @param {LinkedPair} pair */
  constructor(pair) {
    this.pair = pair
    this.models = pair.models.overlap
    /** @type {Part["actions"]} */
    this.actions = { overlap: (point) => point && this.pick(point) }
  }

  /** @type {Required<Part>["render"]} */
  render(changed) {
    if (changed.has("selected_class") || changed.has("selected_outlier")) this.draw()
    if (changed.has("num_outliers")) this.drawEdge()
  }

  appear() {
    this.draw()
  }

  repaint() {
    this.draw()
  }

  /** @param {{x: number, y: number}} point */
  pick(point) {
    const { overlap, classNames } = this.pair.told
    const found = cellAt(point, overlap.length, classNames.length)
    if (found) this.pair.select(found)
  }

  // Below the edge stand eigenvectors that are not counted as outliers.
  drawEdge() {
    const { numOutliers, told } = this.pair
    const { edge } = this.models
    edge.location = numOutliers - 0.5
    edge.visible = numOutliers > 0 && numOutliers < told.overlap.length
  }

  /**
   * The share of an eigenvector in the span of all class means, as a bar.
   * @param {number} cell
   */
  placeBar(cell) {
    const { cells, left, width } = this.models
    const { data } = cells
    data.width[cell] = data.value[cell] * width
    data.x[cell] = left + data.width[cell] / 2
  }

  draw() {
    const { selected } = this.pair
    const { selected_class: c, selected_outlier: j } = this.pair.state
    const { ink, line, background, "on-accent": onAccent } = this.pair.colors
    const { cells, most } = this.models
    const { data } = cells
    const plain = data.text[0] === "" ? background : line // as Python drew it
    for (let cell = 0; cell < data.value.length; cell++) {
      const total = data.c[cell] < 0
      const inside = selected && (c >= 0 ? data.c[cell] === c : data.j[cell] === j)
      const shown = !selected || inside ? 1 : 0.3
      data.line_color[cell] = inside ? ink : plain
      data.alpha[cell] = (total ? 0.55 : 0.9 * shade(data.value[cell], most)) * shown
      data.text_color[cell] = data.alpha[cell] > 0.5 && !total ? onAccent : ink
    }
    cells.change.emit()
  }
}
