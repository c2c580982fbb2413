import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import test from "node:test"
import { escaped, number, percent, subscript, withError } from "../../workbench/ui/views/browser/formats.js"

const cases = JSON.parse(readFileSync(new URL("../formats.json", import.meta.url), "utf8"))

test("a number is written as the prose of the page writes it", () => {
  for (const [value, text] of cases.number) assert.equal(number(value), text)
  assert.equal(number(Number.NaN), "not a number")
})

test("a share is written as the prose of the page writes it", () => {
  for (const [share, text] of cases.percent) assert.equal(percent(share), text.replace(" %", "\u00a0%"))
  assert.equal(percent(Number.NaN), "–")
})

test("an error is told where there is one", () => {
  assert.equal(withError(1.2, 0.0005), "1.20 ± 5.00 · 10⁻⁴")
  assert.equal(withError(1.2, 0), "1.20")
})

test("nothing that was typed becomes a tag or ends an attribute", () => {
  assert.doesNotMatch(escaped(`<img src="x" onerror='y'>&`), /[<>"']|&(?!#\d+;)/)
})

test("an index of two digits is lowered digit by digit", () => {
  assert.equal(subscript(12), "₁₂")
})
