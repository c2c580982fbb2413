import assert from "node:assert/strict"
import test from "node:test"
import { inOneSentence, lacking, letGo } from "../../workbench/ui/views/browser/bokeh.js"
import { actionsFor } from "../../workbench/ui/views/browser/pair.js"

const parts = [{ actions: { play: () => {} } }, { actions: { station: () => {} } }]

test("each control that asks has its action", () => {
  assert.deepEqual(Object.keys(actionsFor(["play", "station"], parts)), ["play", "station"])
})

test("a control that nothing answers to is named at once, in one sentence", () => {
  assert.throws(() => actionsFor(["play", "toString", "stop"], parts), /“toString”, “stop”: give one of/)
})

const BokehJS = (scatter = { _paint() {} }, documents = {}) => {
  const plot = { connect_signals() {}, remove() {}, repaint() {}, request_paint() {}, export() {} }
  const views = { Plot: plot, Scatter: scatter, GlyphRenderer: { _paint() {} } }
  const all = { _recompute_all_models() {}, _schedule_recompute_all_models() {}, ...documents }
  return {
    version: "9.9",
    index: { find_one: () => null },
    Models: { get: (name) => ({ prototype: { default_view: { prototype: views[name] } } }) },
    require: () => ({ Document: { prototype: all } }),
  }
}

test("a BokehJS that has all that is needed lacks nothing", () => {
  globalThis.Bokeh = BokehJS()
  assert.deepEqual(lacking(), [])
})

test("what a BokehJS lacks is said in one sentence, with its version", () => {
  globalThis.Bokeh = BokehJS({}, { _recompute_all_models: 1 })
  assert.deepEqual(lacking(), ["Scatter._paint", "Document._recompute_all_models"])
  assert.match(inOneSentence(lacking()), /^BokehJS 9\.9 lacks .*\(Scatter\._paint, Document\..*\); install/)
  globalThis.Bokeh = { version: "9.9" }
  assert.deepEqual(lacking(), ["Bokeh.Models", "Bokeh.require", "Bokeh.index"])
})

test("where something is missing nothing of BokehJS is replaced, and the page says so", (t) => {
  const warn = t.mock.method(console, "warn", () => {})
  globalThis.Bokeh = BokehJS({})
  const { remove } = Bokeh.Models.get("Plot").prototype.default_view.prototype
  letGo()
  assert.equal(Bokeh.Models.get("Plot").prototype.default_view.prototype.remove, remove)
  assert.equal(warn.mock.callCount(), 1)
})
