import assert from "node:assert/strict"
import test from "node:test"
import { shade } from "../../workbench/ui/views/browser/table.js"

test("a cell that says its number is as dark as that", () => {
  assert.equal(shade(0.25, 1), 0.25)
})

test("of a hundred classes the greatest share is the darkest, small as it is", () => {
  assert.equal(shade(0.04, 0.04), 1)
  assert.equal(shade(0.01, 0.04), 0.5)
})
