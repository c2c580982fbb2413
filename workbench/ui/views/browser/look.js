// The theme: of the host, or chosen. Python drew everything in one theme; another one is
// put on by exchanging each colour for the one of the same role, and by scaling type and
// marks. Nothing but the look changes, so it may happen at any moment.

import { elementOf } from "./bokeh.js"

/** @import {LinkedPair} from "./pair.js" */
/** @import {Column, Model, Part, Source, Theme} from "./types.js" */

const HOST = "data-jp-theme-light" // JupyterLab's; Voila's page says it too

/** @implements {Part} */
export class Look {
  actions = {}
  name = "" // of the theme that is on

  /** @param {LinkedPair} pair */
  constructor(pair) {
    this.pair = pair
    this.layout = pair.models.look.layout
    this.use(pair.told.built)
    this.scheme = matchMedia("(prefers-color-scheme: dark)")
    this.follow = () => this.apply()
    this.scheme.addEventListener("change", this.follow)
    this.host = new MutationObserver(this.follow)
    this.host.observe(document.body, { attributes: true, attributeFilter: [HOST] })
  }

  /** @type {Required<Part>["render"]} */
  render(changed) {
    if (changed.has("theme")) this.apply()
  }

  get wanted() {
    const { theme } = this.pair.state
    if (theme !== "auto") return theme
    const light = document.body.getAttribute(HOST)
    const dark = light === null ? this.scheme?.matches : light === "false"
    return dark ? "dark" : "light"
  }

  /** @param {string} name */
  use(name) {
    const { pair } = this
    const { colors, marks } = pair.told.themes[name]
    const classes = Object.keys(colors).filter((role) => /^class-\d/.test(role))
    this.name = name
    pair.colors = colors
    pair.lineScale = marks
    pair.classColors = pair.told.classNames.map((_, c) => colors[classes[c % classes.length]])
  }

  apply() {
    if (!this.pair.onPage) return
    const { state, told } = this.pair
    globalThis.workbenchAsked ??= new URLSearchParams(location.search).get("theme") ?? ""
    const asked = globalThis.workbenchAsked
    globalThis.workbenchAsked = "" // by the page's link, and once
    if (Object.hasOwn(told.themes, asked) && state.theme === "auto") {
      state.theme = asked
      return
    }
    const [was, name] = [this.name, this.wanted]
    this.tellPage(name)
    if (name === was) return
    this.use(name)
    this.dye(told.themes[was], told.themes[name])
    for (const part of this.pair.allParts) part.repaint?.()
  }

  leave() {
    this.scheme.removeEventListener("change", this.follow)
    this.host.disconnect()
  }

  // What is around the pictures, outside their shadow trees.
  get page() {
    /** @type {Element | undefined} */
    let element = elementOf(this.layout)
    while (element && !element.closest(".workbench")) {
      const root = element.getRootNode()
      element = root instanceof ShadowRoot ? root.host : undefined
    }
    return /** @type {HTMLElement | undefined} */ (element?.closest(".workbench"))
  }

  /**
   * It has its colours from a style sheet.
   * @param {string} name
   */
  tellPage(name) {
    const { page } = this
    if (page) page.dataset.theme = name
    if (document.body.classList.contains("wb-page")) document.body.dataset.theme = name
  }

  /**
   * @param {Theme} was
   * @param {Theme} now
   */
  dye(was, now) {
    const fresh = new Map(Object.entries(was.colors).map(([role, color]) => [color, now.colors[role]]))
    /** @param {unknown} value */
    const exchanged = (value) => fresh.get(/** @type {string} */ (value)) ?? value
    /** @type {(by: number) => (size: unknown) => unknown} */
    const scaled = (by) => (size) =>
      typeof size === "number" ? size * by : `${Number.parseFloat(String(size)) * by}px`
    /** @type {[RegExp, (value: unknown) => unknown][]} */
    const rules = [
      [/color$/, exchanged],
      [/font_size$/, scaled(now.type / was.type)],
      [/line_width$|^size$/, scaled(now.marks / was.marks)],
    ]
    for (const model of this.layout.references()) {
      if (model.type === "ColumnDataSource") this.exchange(model, exchanged)
      if (model.type === "HoverTool") {
        const tool = /** @type {Model & {tooltips: string}} */ (model)
        tool.tooltips = tool.tooltips.replace(was.tip, now.tip)
      }
      for (const { attr } of model) {
        const change = rules.find(([pattern]) => pattern.test(attr))?.[1]
        if (change === undefined) continue
        const whole = Reflect.get(model, attr)
        const value = whole?.value ?? whole
        if (typeof value !== "number" && typeof value !== "string") continue
        Reflect.set(model, attr, value === whole ? change(value) : { ...whole, value: change(value) })
      }
    }
    this.layout.styles = { ...this.layout.styles, ...now.variables }
  }

  /**
   * Colours that stand in columns, one a mark.
   * @param {Model} model
   * @param {(value: unknown) => unknown} exchanged
   */
  exchange(model, exchanged) {
    const source = /** @type {Source<Record<string, Column<unknown>>>} */ (model)
    const columns = Object.entries(source.data).filter(([name]) => /color$/.test(name))
    for (const [name, column] of columns) source.data[name] = Array.from(column, exchanged)
    if (columns.length > 0) source.change.emit()
  }
}
