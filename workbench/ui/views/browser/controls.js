// Buttons and switches: what they ask for, what they show, and the texts beside them.

import { buttonIn, labelGroup, labelSlider } from "./bokeh.js"
import { escaped, number, percent, subscript } from "./formats.js"

/** @import {LinkedPair} from "./pair.js" */
/** @import {Model, Part} from "./types.js" */

/** @implements {Part} */
export class Controls {
  /** @param {LinkedPair} pair */
  constructor(pair) {
    this.pair = pair
    this.models = pair.models.controls
    const { models } = this
    const { state, told } = pair
    /** @type {Part["actions"]} */
    this.actions = {
      classes: () => this.toggled(models.classes.active, "selected_class"),
      outliers: () => this.toggled(models.outliers.active, "selected_outlier"),
      clear: () => pair.select({}),
      operator: () => this.operate(models.operator.labels[models.operator.active]),
      scale: () => state.setv({ scale: told.scales[models.scale.active] }),
      parts: () => state.setv({ parts: models.parts.active.map((n) => told.parts[n]).join(",") }),
      count: () => pair.countOutliers(models.count.value),
      automatic: () => pair.countOutliers(told.automatic),
      knockout: () => this.knockOut(told.knockouts[models.knockout.active]),
    }
  }

  /**
   * A group of buttons holds what was and what is new; the new one counts.
   * @param {number[]} active
   * @param {"selected_class" | "selected_outlier"} what
   */
  toggled(active, what) {
    const was = this.pair.state[what]
    const fresh = active.filter((index) => index !== was)
    if (fresh.length > 0) this.pair.select({ [what]: fresh[0] })
    else if (was >= 0 && !active.includes(was)) this.pair.select({})
  }

  /** @param {string} operator */
  operate(operator) {
    const { state } = this.pair
    const ofG = operator === "G" || operator === "all"
    state.setv({ operator, knockout: ofG ? state.knockout : "none" })
  }

  /** @param {string} knockout */
  knockOut(knockout) {
    const { state } = this.pair
    const ofG = knockout === "none" || state.operator === "all"
    state.setv({ knockout, operator: ofG ? state.operator : "G" })
  }

  render() {
    const { models, pair } = this
    const { state, told, selected, numOutliers } = pair
    const shown = state.parts.split(",")
    models.classes.active = [state.selected_class].filter((c) => c >= 0)
    models.outliers.active = [state.selected_outlier].filter((j) => j >= 0)
    pair.disable(models.clear, !selected)
    models.operator.active = models.operator.labels.indexOf(state.operator)
    models.scale.active = told.scales.indexOf(state.scale)
    models.knockout.active = told.knockouts.indexOf(state.knockout)
    models.parts.active = told.parts.flatMap((role, n) => (shown.includes(role) ? [n] : []))
    models.count.value = numOutliers
    pair.disable(models.automatic, state.num_outliers < 0)
    pair.write(models.rule, this.rule())
    pair.write(models.message, this.message())
    pair.write(models.note, this.note())
  }

  note() {
    const { state, told, selected } = this.pair
    const moves = this.pair.models.spectrum.curves[`G/${state.scale}`].data.rest !== undefined
    const density = moves
      ? " The density moves with these; below them it is still G’s."
      : " The grey density is still G’s."
    if (state.knockout === "subtracted") {
      return (
        `<b>Knocked out:</b> the sticks are the leading eigenvalues of G − ${told.partName}, ` +
        `what is left of the outliers (dotted) without the class part.${density}`
      )
    }
    if (state.knockout === "projected") {
      return (
        "<b>Knocked out:</b> the sticks are the leading eigenvalues of G without the " +
        `directions that the class means span; dotted: the outliers as they were.${density}`
      )
    }
    if (state.operator === "all") {
      /** @type {Record<string, string>} */
      const lines = { G: "grey", Hess: "dashed", H: "dotted" }
      return Object.entries(told.notes)
        .map(([name, note]) => `<b>${name}</b> (${lines[name]}): ${escaped(note)}`)
        .join(" ")
    }
    const elsewhere =
      state.operator !== "G" && selected ? " What is selected is shown on the spectrum of G only." : ""
    return escaped(told.notes[state.operator]) + elsewhere
  }

  rule() {
    const { state, told, numOutliers: k, models } = this.pair
    if (state.num_outliers < 0) return told.rule
    const { value } = models.spectrum.eigenvalues.G.data
    const ratio =
      k > 0 && value[k] > 0
        ? ` λ${subscript(k)}/λ${subscript(k + 1)} = ${number(value[k - 1] / value[k])}.`
        : ""
    return `<b>You count ${k}.</b>${ratio} By the rule: ${told.rule}`
  }

  message() {
    const { selected_class: c, selected_outlier: j } = this.pair.state
    const { overlap, classNames, hint } = this.pair.told
    if (c >= 0) {
      const shares = overlap.map((row, n) => ({ name: this.pair.rank(n), share: row[c] }))
      const along = foremost(shares).map(({ name, share }) => `<b>${percent(share)}</b> along ${name}`)
      return `The class mean of <b>${escaped(classNames[c])}</b> points ${along.join(", ")}.`
    }
    if (j >= 0) {
      const shares = overlap[j].map((share, n) => ({ name: classNames[n], share }))
      const held = foremost(shares).map(({ name, share }) => `<b>${percent(share)}</b> of ${escaped(name)}’s`)
      return `Along ${this.pair.rank(j)} lie ${held.join(", ")} class mean.`
    }
    return escaped(hint)
  }

  dress() {
    const { models, pair } = this
    const { stepper } = pair.models
    const { titles, labels } = pair.told
    const groups = {
      classes: models.classes,
      outliers: models.outliers,
      operator: models.operator,
      scale: models.scale,
      parts: models.parts,
      knockout: models.knockout,
      speed: stepper.speed,
    }
    for (const [key, model] of Object.entries(groups)) {
      const name = /** @type {keyof typeof groups} */ (key)
      labelGroup(pair.element(model), model.active, labels[name], titles[name])
    }
    pair
      .element(models.outliers)
      ?.querySelectorAll("button")
      .forEach((chip, j) => {
        chip.style.borderStyle = j < pair.numOutliers ? "" : "dashed"
      })
    /** @type {[Model, string][]} */
    const buttons = [
      [stepper.back, titles.back],
      [stepper.play, titles.play],
      [stepper.step, titles.step],
      [stepper.maths, titles.maths],
      [models.clear, titles.clear],
      [models.automatic, titles.automatic],
    ]
    stepper.stations.forEach((model, n) => {
      buttons.push([model, titles.station[n]])
    })
    for (const [model, title] of buttons) {
      const button = buttonIn(pair.element(model))
      if (button) button.title = title
    }
    labelSlider(pair.element(stepper.position), labels.position)
    labelSlider(pair.element(models.count), labels.count)
  }
}

/**
 * The three with the greatest shares.
 * @param {{name: string, share: number}[]} shares
 */
const foremost = (shares) => shares.sort((a, b) => b.share - a.share).slice(0, 3)
