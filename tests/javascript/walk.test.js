import assert from "node:assert/strict"
import test from "node:test"
import { above, climbOf, stepsOf, walkSentence } from "../../workbench/ui/views/browser/walk.js"

const flat = [0.03, 0.02, 0.01, 0.02, 0.04]
const steep = [0.9, 0.3, 0.02, 0.4, 1.4]

test("a climb is from the middle to the higher end, and no less than nothing", () => {
  assert.equal(climbOf(steep, 2), 1.38)
  assert.equal(climbOf(steep, 1), 0.38)
  assert.equal(climbOf([0.1, 0.5, 0.1], 1), 0)
  assert.equal(climbOf([Number.NaN, 0.5, 1], 1), 0.5) // where it is not finite
})

test("the classes that climb are named, and how far the others come", () => {
  const said = walkSentence("outlier 2", steep, [flat, steep, flat, steep], ["a", "b", "c", "<d>"])
  assert.equal(
    said,
    "<b>Along outlier 2</b> the loss of <b>b</b> and <b>&#60;d&#62;</b> climbs from 0.0200 to 1.40; " +
      "the others stay below 0.0410.",
  )
})

test("where nothing climbs that is said, with a number", () => {
  const said = walkSentence("eigenvector 17", flat, [flat, flat], ["a", "b"])
  assert.match(said, /hardly changes: that of no class climbs by more than 0.0300\.$/)
})

test("where all climb there are no others, and many classes are counted", () => {
  assert.match(
    walkSentence("outlier 1", steep, [steep, steep], ["a", "b"]),
    /loss of every class climbs .* 1\.40\.$/,
  )
  const many = walkSentence("outlier 1", steep, [steep, steep, steep, steep, flat], ["a", "b", "c", "d", "e"])
  assert.match(many, /the loss of 4 of the 5 classes climbs/)
})

test("a bound is larger than what it bounds, with two digits", () => {
  assert.equal(above(0.04), 0.041)
  assert.equal(above(1.234), 1.3)
  assert.equal(above(0), 0)
})

test("what is shown ends where the loss of all has climbed by one, and the sentence says so", () => {
  const all = [9, 6, 4, 2.5, 1.2, 0.5, 0, 0.4, 0.9, 1.1, 2, 3, 5]
  assert.equal(stepsOf(all), 3) // 2.5 to the left
  assert.equal(stepsOf([2, 0, 2]), 1)
  assert.equal(stepsOf(all.map((loss) => loss / 100)), 6)
  const own = all.map((loss) => 4 * loss)
  const late = [20, 15, 9, 0.5, 0.1, 0, 0, 0, 0, 0, 0, 0, 0]
  assert.equal(
    walkSentence("outlier 1", all, [own, late], ["a", "b"]),
    "<b>Along outlier 1</b>, until the loss of all examples has climbed by one, that of <b>a</b> " +
      "climbs from 0 to 10.0; the others stay below 0.510.",
  )
})
