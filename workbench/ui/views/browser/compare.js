// A pinned study: dashed outlines behind the one that is drawn, or a pair of its own.

import { labelGroup } from "./bokeh.js"
import { gridded } from "./curves.js"
import { withError } from "./formats.js"
import { FADED, greatest, mix } from "./numbers.js"

/** @import {LinkedPair} from "./pair.js" */
/** @import {Curve, Part} from "./types.js" */

/** @implements {Part} */
export class Compare {
  /** @type {Record<string, Curve>} */
  curves = {}

  /** @param {LinkedPair} pair */
  constructor(pair) {
    this.pair = pair
    this.models = pair.models.compare
    const { models } = this
    /** @type {Part["actions"]} */
    this.actions = {
      compare: () => models && pair.state.setv({ compare: pair.told.compareModes[models.mode.active] }),
      plane: () => {}, // a tap there asks for nothing
      plot: () => {},
    }
    for (const [key, curve] of Object.entries(models?.curves ?? {})) this.curves[key] = gridded(curve)
  }

  // The axes hold both studies, which Python drew one by one.
  appear() {
    if (this.models === undefined) return
    this.pair.parts.spectrum.drawFrame()
    this.drawSpectrum()
  }

  /** @type {Required<Part>["render"]} */
  render(changed) {
    if (this.models === undefined) return
    if (changed.has("compare")) this.show()
    if (changed.has("selected_class") || changed.has("selected_outlier")) this.fade()
    this.drawSpectrum()
  }

  show() {
    if (this.models === undefined) return
    const { ghosts, mode, row } = this.models
    const beside = this.pair.state.compare === "beside"
    for (const ghost of ghosts) ghost.visible = !beside
    row.visible = beside
    mode.active = this.pair.told.compareModes.indexOf(this.pair.state.compare)
  }

  dress() {
    if (this.models === undefined) return
    const { labels, titles } = this.pair.told
    const { mode } = this.models
    labelGroup(this.pair.element(mode), mode.active, labels.compare, titles.compare)
  }

  // What is selected stands out in both studies, class by class.
  fade() {
    const weights = this.pair.classWeights()
    for (const source of this.models?.marks ?? []) {
      const { c, alpha } = source.data
      for (let row = 0; row < c.length; row++) alpha[row] = mix(FADED, 1, weights[c[row]])
      source.change.emit()
    }
  }

  drawSpectrum() {
    if (this.models === undefined) return
    const { sticks, curve, part, eigenvalues, overlap, plot } = this.models
    const {
      state,
      parts: { spectrum },
      models,
    } = this.pair
    const { operator, scale, selected_class: c } = state
    const shown = operator === "all" ? "G" : operator
    const { value = [], residual = [], name = [] } = eigenvalues[shown] ?? {}
    const values = Array.from(value)
    const [bottom, top] = spectrum.frame.y
    const most = greatest(overlap.map((row) => row[c] ?? 0))
    const linked = shown === "G" && c >= 0 && overlap.length > 0
    sticks.data = {
      x: values.map((value) => spectrum.place(value)),
      base: values.map(() => bottom),
      top: values.map(() => mix(bottom, top, this.pair.told.ghostTop)),
      alpha: values.map((_, j) => (linked ? mix(0.15, 1, (overlap[j]?.[c] ?? 0) / most) : 0.9)),
      name,
      told: values.map((value, j) => withError(value, residual[j])),
    }
    part.data = spectrum.stand("class", part.data, false)
    const { x, y } = this.curves[`${shown}/${scale}`]
    curve.data = { x, y }
    const { below, left } = models.spectrum.figure
    const { axis_label, ticker, formatter } = below[0]
    plot.below[0].setv({ axis_label, ticker, formatter })
    plot.left[0].axis_label = left[0].axis_label
  }
}
