import assert from "node:assert/strict"
import test from "node:test"
import { cutAt, placeOn } from "../../workbench/ui/views/browser/spectrum.js"

test("on a log axis a value stands at its power of ten above the floor, on its side", () => {
  assert.equal(placeOn(0.25, "linear", -6), 0.25)
  assert.equal(placeOn(100, "log", -6), 8)
  assert.equal(placeOn(-100, "log", -6), -8)
  assert.equal(placeOn(1e-9, "log", -6), 0)
})

test("the cut stands midway between the last outlier and the next eigenvalue", () => {
  assert.equal(cutAt([8, 4, 2], 1), 6)
  assert.equal(cutAt([8, 4, 2], 0), 8.16)
  assert.equal(cutAt([8, 4, 2], 3), 0)
})
