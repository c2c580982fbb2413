import assert from "node:assert/strict"
import test from "node:test"
import { shown } from "../../workbench/ui/views/browser/said.js"

test("what a sentence shows is drawn with what was drawn, where it can be seen", () => {
  const was = { parts: "class,within", operator: "H" }
  assert.deepEqual(shown("collapse", was), {
    parts: "class,within,collapse",
    operator: "G",
    knockout: "none",
  })
  const again = shown("collapse", shown("collapse", was))
  assert.equal(again.parts, "class,within,collapse")
  assert.equal(shown("collapse", { parts: "", operator: "Hess" }).parts, "collapse")
  assert.equal(shown("collapse", { parts: "", operator: "all" }).operator, "all")
})
