// The loss along the eigenvector that is picked: whole, and a class at a time.

import { escaped, number } from "./formats.js"
import { FADED, mix } from "./numbers.js"

/** @import {LinkedPair} from "./pair.js" */
/** @import {Numbers, Part, WalkLines, Walks} from "./types.js" */

const FLAT = 0.1 // a loss that climbs by less hardly changes
const ITS_OWN = 1 / 2 // of the greatest climb: a class that climbs as much takes part
const FEWEST = 3 // steps that are shown either way
const NAMED = 3 // classes that are named one by one

/** @param {Numbers} values */
const finite = (values) => Array.from(values).filter(Number.isFinite)

/**
 * How far a loss is above its middle, so many steps from there, on the higher side.
 * @param {Numbers} loss
 * @param {number} steps
 */
export const climbOf = (loss, steps) => {
  const here = (loss.length - 1) / 2
  return Math.max(...finite([loss[here - steps], loss[here + steps]]), loss[here]) - loss[here]
}

/**
 * Steps after which a loss has climbed by one; all of them, where it does not. Further away
 * every class climbs, and which do first can no longer be seen.
 * @param {Numbers} loss
 */
export const stepsOf = (loss) => {
  const most = (loss.length - 1) / 2
  for (let steps = Math.min(FEWEST, most); steps < most; steps++) if (climbOf(loss, steps) >= 1) return steps
  return most
}

/** @param {string[]} words */
const listed = (words) =>
  words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`

/**
 * What happens along an eigenvector, in one sentence of HTML.
 * @param {string} name Of the eigenvector.
 * @param {Numbers} loss Of all, at each distance.
 * @param {Numbers[]} losses Of each class.
 * @param {string[]} classNames
 */
export const walkSentence = (name, loss, losses, classNames) => {
  const here = (loss.length - 1) / 2
  const steps = stepsOf(loss)
  const climbs = losses.map((own) => climbOf(own, steps))
  const most = Math.max(...climbs)
  const far = steps < here
  const along = `<b>Along ${name}</b>${far ? ", until the loss of all examples has climbed by one," : ""} `
  if (!(most >= FLAT)) {
    return `${along}the loss hardly changes: that of no class climbs by more than ${number(Math.max(most, 0))}.`
  }
  const its = climbs.map((climb) => climb >= ITS_OWN * most)
  const own = losses.filter((_, c) => its[c])
  const from = Math.min(...own.map((one) => one[here]))
  const to = Math.max(...own.flatMap((one) => finite([one[here - steps], one[here + steps]])))
  const names = classNames.filter((_, c) => its[c]).map((word) => `<b>${escaped(word)}</b>`)
  const many = names.length > NAMED
  const who =
    names.length === classNames.length
      ? "every class"
      : many
        ? `${names.length} of the ${classNames.length} classes`
        : listed(names)
  const others = losses
    .filter((_, c) => !its[c])
    .flatMap((one) => finite(Array.from(one).slice(here - steps, here + steps + 1)))
  const rest = others.length > 0 ? `; the others stay below ${number(above(Math.max(...others)))}` : ""
  return `${along}${far ? "that" : "the loss"} of ${who} climbs from ${number(from)} to ${number(to)}${rest}.`
}

/**
 * The next larger number of two digits.
 * @param {number} value
 */
export const above = (value) => {
  if (!(value > 0)) return 0
  const unit = 10 ** (Math.floor(Math.log10(value)) - 1)
  return Number(((Math.floor(value / unit) + 1) * unit).toPrecision(2))
}

/** @implements {Part} */
export class Walk {
  /** @param {LinkedPair} pair */
  constructor(pair) {
    this.pair = pair
    this.models = pair.models.walk
    /** @type {Part["actions"]} */
    this.actions = { walk: () => {} } // a tap there asks for nothing
  }

  render() {
    this.draw()
  }

  appear() {
    this.draw()
  }

  repaint() {
    this.draw()
  }

  // Of the picked eigenvector among those that were walked along; -1: none.
  get row() {
    const { selected_outlier: picked } = this.pair.state
    return picked < 0 ? -1 : (this.models?.walks.leading[picked] ?? -1)
  }

  draw() {
    if (this.models === undefined) return
    const { panel, sentence } = this.models
    const { film } = this.pair.parts
    const row = film.settled === film.last ? this.row : -1
    panel.visible = row >= 0
    this.pair.write(sentence, this.sentence(row))
    if (row >= 0) this.drawLines(this.models.walks, row)
  }

  /** @param {number} row */
  sentence(row) {
    if (this.models === undefined) return ""
    const { film } = this.pair.parts
    const { selected_outlier: picked } = this.pair.state
    if (film.settled !== film.last) return "The loss along the eigenvectors was measured at the last epoch."
    if (picked < 0) return "Pick an eigenvector, here or below, to see the loss along it."
    if (row < 0) return `The loss was not measured along ${this.pair.rank(picked)}.`
    const { loss, classes } = this.models.walks
    return walkSentence(this.pair.rank(picked), loss[row], classes[row], this.pair.told.classNames)
  }

  /**
   * @param {Walks} walks
   * @param {number} row
   */
  drawLines(walks, row) {
    if (this.models === undefined) return
    const { lines, pinned, figure } = this.models
    const { classColors, colors, lineScale, told, state } = this.pair
    const { distance, loss, bulk, bulkRank, lowest } = walks
    const losses = walks.classes[row]
    const steps = stepsOf(loss[row])
    const most = Math.max(...losses.map((own) => climbOf(own, steps)), FLAT)
    /** @type {WalkLines} */
    const drawn = { xs: [], ys: [], line_color: [], line_alpha: [], line_width: [], line_dash: [], name: [] }
    /**
     * @param {Numbers} x
     * @param {Numbers} y
     * @param {string} name
     * @param {string} color
     * @param {number} width
     */
    const line = (x, y, name, color, width, dash = "solid", alpha = 1) => {
      drawn.xs.push(x)
      drawn.ys.push(y)
      drawn.name.push(name)
      drawn.line_color.push(color)
      drawn.line_width.push(width * lineScale)
      drawn.line_dash.push(dash)
      drawn.line_alpha.push(alpha)
    }
    if (bulk >= 0) line(distance, loss[bulk], `all, along eigenvector ${bulkRank}`, colors.curve, 2, "dotted")
    if (lowest >= 0) line(distance, loss[lowest], "all, along H’s lowest", colors["means-part"], 2, "dashed")
    losses.forEach((own, c) => {
      const share = Math.min(1, climbOf(own, steps) / (ITS_OWN * most))
      line(distance, own, told.classNames[c], classColors[c], 1.6, "solid", mix(4 * FADED, 1, share))
    })
    line(distance, loss[row], "all examples", colors.ink, 3)
    const its = pinned?.leading[state.selected_outlier]
    if (pinned && its !== undefined)
      line(pinned.distance, pinned.loss[its], "pinned: all examples", colors.muted, 2, "dotdash")
    lines.data = drawn
    const end = distance[(distance.length - 1) / 2 + steps]
    const seen = drawn.ys.flatMap((y, n) =>
      finite(Array.from(y).filter((_, k) => Math.abs(drawn.xs[n][k]) <= end)),
    )
    const top = Math.max(...seen, 1e-6)
    figure.x_range.setv({ start: -end, end })
    figure.y_range.setv({ start: 0, end: 1.06 * top })
  }
}
