import assert from "node:assert/strict"
import test from "node:test"
import { blended, gridded, spansOf, unpacked } from "../../workbench/ui/views/browser/curves.js"

const y = Float32Array.of(1, 2, 3, Number.NaN, 4, 5, 6, Number.NaN)
const packed = {
  spans: [
    [-3, -1],
    [1, 5],
  ],
  y,
  low: y,
  high: y,
}

test("a curve gets an even grid with a gap after each side", () => {
  const curve = gridded(packed)
  assert.deepEqual([...curve.x], [-3, -2, -1, Number.NaN, 1, 3, 5, Number.NaN])
  assert.deepEqual(spansOf(curve.x), packed.spans)
})

test("a curve without a side has no grid", () => {
  assert.equal(gridded({ spans: [], y: [], low: [], high: [] }).x.length, 0)
})

test("a moment's curves get their grids, and the rest of it stays", () => {
  const moment = unpacked({ homes: [], eigenvalues: {}, parts: {}, frames: {}, curves: { "G/log": packed } })
  assert.equal(moment.curves["G/log"].x.length, y.length)
  assert.deepEqual(moment.homes, [])
})

test("a density between two has its ends by ratio and its heights by difference", () => {
  const [from, to] = [
    gridded(packed),
    gridded({
      ...packed,
      spans: [
        [-3, -1],
        [4, 20],
      ],
      y: y.map((v) => v + 2),
    }),
  ]
  const half = blended(from, to, 0.5)
  assert.ok(Math.abs(half.x[4] - 2) < 1e-12 && Math.abs(half.x[6] - 10) < 1e-12)
  assert.equal(half.y[0], 2)
  assert.equal("rest" in half, false)
})

test("what moves with a knock-out is mixed where both have it", () => {
  const one = gridded({ ...packed, rest: y })
  assert.equal(blended(one, one, 0.5).rest?.[1], 2)
})

test("where one density lacks a side the nearer one is shown", () => {
  const [from, to] = [
    gridded(packed),
    gridded({ spans: [[1, 5]], y: y.slice(4), low: y.slice(4), high: y.slice(4) }),
  ]
  assert.equal(blended(from, to, 0.4), from)
  assert.equal(blended(from, to, 0.6), to)
})
