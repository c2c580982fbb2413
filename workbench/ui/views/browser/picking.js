// What a click in a picture is meant for.

/** @import {Figure, Numbers} from "./types.js" */

const REACH = 10 // pixels beside a mark that still count as a click upon it

/**
 * Pixels a unit of each axis of a figure.
 * @param {Pick<Figure, "x_range" | "y_range" | "inner_width" | "inner_height">} figure
 */
export const pixelsPerUnit = ({ x_range: x, y_range: y, inner_width, inner_height }) => [
  inner_width / Math.abs(x.end - x.start),
  inner_height / Math.abs(y.end - y.start),
]

/**
 * The class of the mark that is nearest to a point, or -1.
 * @param {{x: number, y: number}} point
 * @param {{x: Numbers, y: Numbers, c: Numbers, radius: number}[]} levels Marks that are seen.
 * @param {number[]} perUnit Pixels a unit of each axis.
 */
export const nearestClass = ({ x, y }, levels, [perX, perY]) => {
  let [best, found] = [REACH, -1]
  for (const marks of levels) {
    for (let row = 0; row < marks.c.length; row++) {
      const far = Math.hypot((marks.x[row] - x) * perX, (marks.y[row] - y) * perY) - marks.radius
      if (far < best) [best, found] = [far, marks.c[row]]
    }
  }
  return found
}

/**
 * The stick, of the first so many, that is nearest to a point, or -1.
 * @param {{x: number, y: number}} point
 * @param {{x: Numbers, top: Numbers}} sticks
 * @param {number} many
 * @param {number[]} perUnit
 */
export const nearestStick = ({ x, y }, sticks, many, [perX, perY]) => {
  let [best, found] = [REACH, -1]
  for (let j = 0; j < many; j++) {
    const above = Math.max(0, y - sticks.top[j]) * perY
    const far = Math.hypot((sticks.x[j] - x) * perX, above)
    if (far < best) [best, found] = [far, j]
  }
  return found
}

/**
 * What a point of the overlap table stands for: a cell or its head for the class; the
 * row's number and its sum for the outlier; null for nothing.
 * @param {{x: number, y: number}} point
 * @param {number} numRows
 * @param {number} numClasses
 */
export const cellAt = ({ x, y }, numRows, numClasses) => {
  const [c, j] = [Math.round(x), Math.round(y)]
  const inside = x > -0.5 && c < numClasses
  if (inside && j < numRows) return { selected_class: c }
  return !inside && j >= 0 && j < numRows ? { selected_outlier: j } : null
}
