// Where the stepper goes, and what is left of G's trace there.

import { clamp, ease, mix } from "./numbers.js"

/** @import {Numbers} from "./types.js" */

/**
 * The level that one step leads to, also from between two levels and while on the way.
 * @param {number} position
 * @param {number} target Where it goes at present.
 * @param {1 | -1} direction
 */
export const nextLevel = (position, target, direction) => {
  const onTheWay = Math.sign(target - position) === direction
  const beside = direction > 0 ? Math.floor(position + 1e-6) + 1 : Math.ceil(position - 1e-6) - 1
  return clamp(onTheWay ? target + direction : beside, 0, 3)
}

/**
 * One stride further, and no further than the target.
 * @param {number} position
 * @param {number} target
 * @param {number} stride
 */
export const advance = (position, target, stride) => {
  const left = target - position
  return stride >= Math.abs(left) ? target : position + Math.sign(left) * stride
}

/**
 * What each of the leading eigenvalues has become between two levels: of what the average
 * takes from it, `(1 - w)²` is left, as of the trace (`shareAt`).
 * @param {Numbers[]} levels Eigenvalues of what each level keeps, falling.
 * @param {number} position
 * @param {number} many How many.
 * @returns {number[]} NaN where a level keeps no such eigenvalue, or it was not measured.
 */
export const carriedAt = (levels, position, many) => {
  const level = Math.min(Math.floor(position), 2)
  const left = (1 - ease(position - level)) ** 2
  const [from, to] = [levels[level], levels[level + 1]]
  return Array.from({ length: many }, (_, j) => {
    if (left === 1) return from[j] ?? Number.NaN
    return left === 0 ? (to[j] ?? Number.NaN) : mix(to[j] ?? Number.NaN, from[j] ?? Number.NaN, left)
  })
}

/**
 * The share of G's trace that is left between two levels. A gradient that has gone the share w of
 * the way to its mean m is `(1 - w) delta + w m`, so that of what the average loses
 * `(1 - w)²` is left.
 * @param {number[]} kept What each level keeps.
 * @param {number} position
 */
export const shareAt = (kept, position) => {
  const level = Math.min(Math.floor(position), 2)
  const way = ease(position - level)
  return kept[level + 1] + (1 - way) ** 2 * (kept[level] - kept[level + 1])
}
