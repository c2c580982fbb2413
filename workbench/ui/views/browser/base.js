// What all files of this folder share. They are joined into one script, in the order of
// `SCRIPTS` in linked.py, and Bokeh runs it for each event: classes and constants only,
// and pair.js, the last, hands the event on.

if (globalThis.workbenchPairs?.has(state)) {
  return globalThis.workbenchPairs.get(state).handle(cb_obj)
}

const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value))
const ease = (t) => t * t * (3 - 2 * t)
const mix = (from, to, t) => from * (1 - t) + to * t // exact at both ends
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches
const escape = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`)
const rounded = (value, digits) => Number(value.toPrecision(digits)).toString().replace("-", "−")
const withError = (value, error) => rounded(value, 3) + (error > 0 ? ` ± ${rounded(error, 3)}` : "")
const percent = (share) => {
  const value = 100 * share
  if (value === 0 || (value >= 9.95 && value < 99.5) || value >= 99.95) return `${value.toFixed(0)}\u00a0%`
  return value < 0.1 ? "below 0.1\u00a0%" : `${value.toFixed(1)}\u00a0%`
}

const FADED = 0.07 // emphasis of what is not selected
const REACH = 10 // pixels beside a mark that still count as a click upon it

// Pixels a unit of each axis of a figure.
const pixelsPerUnit = ({x_range: x, y_range: y, inner_width, inner_height}) =>
  [inner_width / Math.abs(x.end - x.start), inner_height / Math.abs(y.end - y.start)]

// What Bokeh's groups of buttons leave unsaid to a screen reader.
const labelGroup = (root, model, words, titles = []) => {
  root?.querySelector(".bk-btn-group")?.setAttribute("role", "group")
  root?.querySelector(".bk-btn-group")?.setAttribute("aria-label", words)
  const active = [model.active].flat()
  root?.querySelectorAll("button").forEach((button, index) => {
    button.setAttribute("aria-pressed", String(active.includes(index)))
    button.title = titles[index] ?? ""
  })
}
