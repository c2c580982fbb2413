// Densities between two moments of the film.

import { between, mix } from "./numbers.js"

/** @import {Curve, Numbers, PackedCurve, PackedMoment, Moment, Span2} from "./types.js" */

/**
 * A curve with its grid: even, between the ends of each side.
 * @param {PackedCurve} curve
 * @returns {Curve}
 */
export const gridded = ({ spans, ...columns }) => {
  const { y } = columns
  const each = spans.length > 0 ? y.length / spans.length - 1 : 0
  const x = spans.flatMap(([left, right]) => [
    ...Array.from({ length: each }, (_, n) => mix(left, right, n / (each - 1))),
    Number.NaN,
  ])
  return { x: Float64Array.from(x), ...columns }
}

/**
 * A moment whose curves have their grids.
 * @param {PackedMoment} moment
 * @returns {Moment}
 */
export const unpacked = (moment) => ({
  ...moment,
  curves: Object.fromEntries(Object.entries(moment.curves).map(([key, curve]) => [key, gridded(curve)])),
})

/**
 * Between two densities; where one has a side that the other lacks, the nearer of them.
 * @param {Curve} from
 * @param {Curve} to
 * @param {number} t
 */
export const blended = (from, to, t) => {
  if (from.y.length !== to.y.length) return t < 0.5 ? from : to
  const [a, b] = [spansOf(from.x), spansOf(to.x)]
  /** @type {Span2[]} */
  const spans = a.map(([left, right], n) => [between(left, b[n][0], t), between(right, b[n][1], t)])
  /** @param {Numbers} one @param {Numbers} other */
  const mixed = (one, other) => Float32Array.from(one, (value, n) => mix(value, other[n], t))
  const rest = from.rest && to.rest ? { rest: mixed(from.rest, to.rest) } : {}
  return gridded({
    spans,
    y: mixed(from.y, to.y),
    low: mixed(from.low, to.low),
    high: mixed(from.high, to.high),
    ...rest,
  })
}

/**
 * The ends of each side of a grid, after which it has a gap.
 * @param {Numbers} x
 * @returns {Span2[]}
 */
export const spansOf = (x) => {
  const gaps = Array.from(x, (at, n) => (Number.isNaN(at) ? n : -1)).filter((n) => n >= 0)
  return gaps.map((gap, n) => [x[n === 0 ? 0 : gaps[n - 1] + 1], x[gap - 1]])
}
