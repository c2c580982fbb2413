import assert from "node:assert/strict"
import test from "node:test"
import {
  cellAt,
  nearestClass,
  nearestStick,
  pixelsPerUnit,
} from "../../workbench/ui/views/browser/picking.js"

const perUnit = [100, 10]
const marks = { x: [0, 1], y: [0, 0], c: [4, 7], radius: 3 }

test("pixels a unit are counted on either axis, also where it falls", () => {
  const figure = {
    x_range: { start: 0, end: 2 },
    y_range: { start: 5, end: 0 },
    inner_width: 200,
    inner_height: 50,
  }
  assert.deepEqual(pixelsPerUnit(figure), [100, 10])
})

test("the nearest mark's class is picked, and none from afar", () => {
  assert.equal(nearestClass({ x: 0.9, y: 0 }, [marks], perUnit), 7)
  assert.equal(nearestClass({ x: 0.5, y: 0 }, [marks], perUnit), -1)
})

test("the edge of a large mark is as near as the middle of a small one", () => {
  const large = { x: [0.5], y: [0], c: [2], radius: 40 }
  assert.equal(nearestClass({ x: 0.15, y: 0 }, [marks, large], perUnit), 2)
})

test("a stick is picked along all its length, and beyond the drawn ones none is", () => {
  const sticks = { x: [1, 2], top: [5, 5] }
  assert.equal(nearestStick({ x: 1.05, y: 0.1 }, sticks, 2, perUnit), 0)
  assert.equal(nearestStick({ x: 2, y: 9 }, sticks, 2, perUnit), -1)
  assert.equal(nearestStick({ x: 2, y: 3 }, sticks, 1, perUnit), -1)
})

test("a cell and its head stand for the class, number and sum of a row for the outlier", () => {
  assert.deepEqual(cellAt({ x: 2.2, y: 1 }, 3, 5), { selected_class: 2 })
  assert.deepEqual(cellAt({ x: 2.2, y: -1 }, 3, 5), { selected_class: 2 })
  assert.deepEqual(cellAt({ x: -0.8, y: 1 }, 3, 5), { selected_outlier: 1 })
  assert.deepEqual(cellAt({ x: 5.3, y: 2 }, 3, 5), { selected_outlier: 2 })
  assert.equal(cellAt({ x: 5.3, y: -1 }, 3, 5), null)
  assert.equal(cellAt({ x: 2, y: 3 }, 3, 5), null)
})
