// Between numbers.

/** @import {Numbers} from "./types.js" */

/** @param {number} value */
export const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value))

/** Slow at both ends. @param {number} t */
export const ease = (t) => t * t * (3 - 2 * t)

/**
 * Exact at both ends.
 * @param {number} from
 * @param {number} to
 * @param {number} t
 */
export const mix = (from, to, t) => from * (1 - t) + to * t

/**
 * Between two numbers, evenly by their ratio where they have one sign.
 * @param {number} from
 * @param {number} to
 * @param {number} t
 */
export const between = (from, to, t) =>
  from * to > 0
    ? Math.sign(from) * Math.exp(mix(Math.log(Math.abs(from)), Math.log(Math.abs(to)), t))
    : mix(from, to, t)

/**
 * Between two columns, row by row.
 * @param {Numbers} from
 * @param {Numbers} to
 * @param {number} t
 */
export const allBetween = (from, to, t) => Float64Array.from(from, (value, row) => between(value, to[row], t))

/** The greatest, or next to nothing: what shares are divided by. @param {number[]} values */
export const greatest = (values) => Math.max(...values, 1e-12)

/** Emphasis of what is not selected. */
export const FADED = 0.07

/** Whether nothing is to move that need not. */
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches
