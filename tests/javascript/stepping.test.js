import assert from "node:assert/strict"
import test from "node:test"
import { advance, nextLevel, shareAt } from "../../workbench/ui/views/browser/stepping.js"

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

test("of what an average loses, (1 - w)² is left on the way", () => {
  const kept = [1, 0.6, 0.5, 0]
  assert.deepEqual(
    [0, 1, 2, 3].map((level) => shareAt(kept, level)),
    kept,
  )
  assert.ok(Math.abs(shareAt(kept, 0.5) - (0.6 + 0.25 * 0.4)) < 1e-12)
})
