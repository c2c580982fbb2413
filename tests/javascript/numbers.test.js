import assert from "node:assert/strict"
import test from "node:test"
import { allBetween, between, clamp, ease, greatest, mix } from "../../workbench/ui/views/browser/numbers.js"

test("a mixture is exact at both ends", () => {
  assert.equal(mix(0.1, 0.7, 0), 0.1)
  assert.equal(mix(0.1, 0.7, 1), 0.7)
  assert.equal(mix(2, 4, 0.5), 3)
})

test("numbers of one sign are mixed by their ratio, others by their difference", () => {
  assert.ok(Math.abs(between(1, 100, 0.5) - 10) < 1e-12)
  assert.ok(Math.abs(between(-1, -100, 0.5) + 10) < 1e-12)
  assert.equal(between(-1, 1, 0.5), 0)
  assert.equal(between(0, 8, 0.25), 2)
})

test("columns are mixed row by row, also where one is not a number", () => {
  assert.deepEqual([...allBetween([0, Number.NaN], [2, 1], 0.5)], [1, Number.NaN])
})

test("what eases starts and ends at rest, and keeps within its bounds", () => {
  assert.deepEqual([0, 0.5, 1].map(ease), [0, 0.5, 1])
  assert.ok(ease(0.01) < 0.001 && 1 - ease(0.99) < 0.001)
  assert.deepEqual([clamp(-1), clamp(2), clamp(7, 0, 3)], [0, 1, 3])
})

test("what shares are divided by is never zero", () => {
  assert.ok(greatest([0, 0]) > 0)
  assert.ok(greatest([]) > 0)
  assert.equal(greatest([0.2, 0.4]), 0.4)
})
