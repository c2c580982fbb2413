// The strip under the spectrum: which layer carries which eigenvector of G.

import { percent } from "./formats.js"

/** @import {LinkedPair} from "./pair.js" */
/** @import {Part} from "./types.js" */

const TOLD = 3 // layers that a sentence names
const LITTLE = 0.005 // a share, or an error of one, that is not worth telling
const FADED = 0.35

/**
 * Where an eigenvector lies, in one sentence of HTML.
 * @param {string} name Of the eigenvector.
 * @param {string[]} layers Names of the rows, as HTML.
 * @param {number[]} shares Of each row.
 * @param {number} error Of each share.
 */
export const stripSentence = (name, layers, shares, error) => {
  const order = shares.map((_, n) => n).sort((a, b) => shares[b] - shares[a] || a - b)
  const largest = order.slice(0, TOLD).filter((n, place) => place === 0 || shares[n] >= LITTLE)
  const told = largest.map(
    (n, place) => `${percent(shares[n])} ${place ? "" : "lies "}in <b>${layers[n]}</b>`,
  )
  const last = told.pop()
  const all = told.length > 0 ? `${told.join(", ")} and ${last}` : last
  const sure = error >= LITTLE ? `, each ± ${percent(error)}` : ""
  return `<b>Of ${name}</b>, ${all}${sure}.`
}

/** @implements {Part} */
export class Strip {
  /** @param {LinkedPair} pair */
  constructor(pair) {
    this.pair = pair
    this.models = pair.models.strip
    /** @type {Part["actions"]} */
    this.actions = { strip: (point) => point && this.pick(point) }
  }

  /** @type {Required<Part>["render"]} */
  render(changed) {
    if (changed.has("selected_outlier") || changed.has("num_outliers")) this.draw()
  }

  appear() {
    this.draw()
  }

  repaint() {
    this.draw()
  }

  /** @param {{x: number, y: number}} point */
  pick({ x }) {
    const j = Math.round(x)
    if (j >= 0 && j < (this.models?.errors.length ?? 0)) this.pair.select({ selected_outlier: j })
  }

  draw() {
    if (this.models === undefined) return
    const { panel, sentence, cells } = this.models
    const { film } = this.pair.parts
    const { selected_outlier: picked } = this.pair.state
    const { ink, line } = this.pair.colors
    panel.visible = film.settled === film.last
    this.pair.write(sentence, this.sentence(picked))
    const { data } = cells
    for (let cell = 0; cell < data.value.length; cell++) {
      const mine = data.j[cell] === picked
      data.line_color[cell] = mine ? ink : line
      data.alpha[cell] = 0.92 * data.value[cell] * (picked < 0 || mine ? 1 : FADED)
    }
    cells.change.emit()
  }

  /** @param {number} picked */
  sentence(picked) {
    if (this.models === undefined) return ""
    const { film } = this.pair.parts
    const { caption, names, shares, errors } = this.models
    if (film.settled !== film.last) return "The layers were measured at the last epoch."
    if (picked < 0) return caption
    const name = this.pair.rank(picked)
    if (picked >= errors.length) return `Where ${name} lies was not measured.`
    return stripSentence(
      name,
      names,
      shares.map((row) => row[picked]),
      errors[picked],
    )
  }
}
