import assert from "node:assert/strict"
import test from "node:test"
import { ease } from "../../workbench/ui/views/browser/numbers.js"
import { advance, carriedAt, nextLevel, shareAt } from "../../workbench/ui/views/browser/stepping.js"

test("a step leads to the level beside, and not off the ends", () => {
  assert.equal(nextLevel(1, 1, 1), 2)
  assert.equal(nextLevel(1, 1, -1), 0)
  assert.equal(nextLevel(3, 3, 1), 3)
  assert.equal(nextLevel(0, 0, -1), 0)
})

test("from between two levels a step leads to the nearer one on its side", () => {
  assert.equal(nextLevel(1.4, 1.4, 1), 2)
  assert.equal(nextLevel(1.4, 1.4, -1), 1)
})

test("a second step on the way leads one further, and a step back turns round", () => {
  assert.equal(nextLevel(0.4, 1, 1), 2)
  assert.equal(nextLevel(0.4, 1, -1), 0)
})

test("a stride ends at its target, from either side", () => {
  assert.equal(advance(0, 1, 0.25), 0.25)
  assert.equal(advance(0.9, 1, 0.25), 1)
  assert.equal(advance(2, 1, 0.25), 1.75)
  assert.equal(advance(1.1, 1, 0.25), 1)
})

test("eigenvalues go from what one level keeps to what the next keeps, as the trace does", () => {
  const levels = [[8, 6, 4], [6, 5], [3, 2], [1]]
  assert.deepEqual(carriedAt(levels, 0, 3), [8, 6, 4])
  assert.deepEqual(carriedAt(levels, 1, 2), [6, 5])
  assert.deepEqual(carriedAt(levels, 2, 2), [3, 2])
  assert.deepEqual(carriedAt(levels, 3, 2), [1, Number.NaN])
  const sum = (/** @type {number[]} */ values) => values.reduce((a, b) => a + b)
  const kept = [14, 11, 5, 1]
  for (const position of [0.2, 0.7, 1.5]) {
    const between = sum(
      carriedAt(
        levels.map((values) => values.slice(0, 2)),
        position,
        2,
      ),
    )
    assert.ok(Math.abs(between - shareAt(kept, position)) < 1e-12)
  }
})

test("what is left on the way is what moved gradients carry", () => {
  const groups = [
    [3, -1, 4],
    [1, -5, 9],
    [2, 6, -5],
  ]
  const means = groups.map((group) => group.reduce((a, b) => a + b) / group.length)
  const square = (values) => values.reduce((sum, value) => sum + value * value, 0) / values.length
  const total = square(groups.flat())
  const kept = [1, square(means) / total, 0.1, 0]
  for (const position of [0, 0.3, 0.5, 1]) {
    const way = ease(position)
    const moved = groups.flatMap((group, n) => group.map((one) => (1 - way) * one + way * means[n]))
    assert.ok(Math.abs(shareAt(kept, position) - square(moved) / total) < 1e-12)
  }
  assert.deepEqual(
    [0, 1, 2, 3].map((level) => shareAt(kept, level)),
    kept,
  )
})
