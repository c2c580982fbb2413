import assert from "node:assert/strict"
import test from "node:test"
import { stripSentence } from "../../workbench/ui/views/browser/strip.js"

const layers = ["conv1", "conv2", "norm", "fc"]

test("the three largest shares are told, largest first", () => {
  assert.equal(
    stripSentence("outlier 3", layers, [0.05, 0.72, 0.03, 0.2], 0),
    "<b>Of outlier 3</b>, 72\u00a0% lies in <b>conv2</b>, 20\u00a0% in <b>fc</b> and 5.0\u00a0% in <b>conv1</b>.",
  )
})

test("shares of nearly nothing are left out, and an error that matters is told", () => {
  assert.equal(
    stripSentence("eigenvector 9", layers, [0.999, 0.001, 0, 0], 0.02),
    "<b>Of eigenvector 9</b>, 99.9\u00a0% lies in <b>conv1</b>, each ± 2.0\u00a0%.",
  )
})
