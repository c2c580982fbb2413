// The theme: of the host, or chosen. Python drew everything in one theme; another one is
// put on by exchanging each colour for the one of the same role, and by scaling type and
// marks. Nothing but the look changes, so it may happen at any moment.

const HOST = "data-jp-theme-light" // JupyterLab's; Voila's page says it too

class Look {
  constructor(pair) {
    Object.assign(this, {pair, layout: pair.models.look.layout, actions: {}})
    this.use(pair.told.built)
    this.scheme = matchMedia("(prefers-color-scheme: dark)")
    this.follow = () => this.apply()
    this.scheme.addEventListener("change", this.follow)
    this.host = new MutationObserver(this.follow)
    this.host.observe(document.body, {attributes: true, attributeFilter: [HOST]})
  }

  render(changed) {
    if (changed.has("theme")) this.apply()
  }

  get wanted() {
    const {theme} = this.pair.state
    if (theme !== "auto") return theme
    const light = document.body.getAttribute(HOST)
    return (light === null ? this.scheme.matches : light === "false") ? "dark" : "light"
  }

  use(name) {
    const {told} = this.pair
    const {colors, marks} = told.themes[name]
    const classes = Object.keys(colors).filter((role) => /^class-\d/.test(role))
    this.name = name
    told.colors = colors
    told.marks = marks
    told.classColors = told.classNames.map((_, c) => colors[classes[c % classes.length]])
  }

  apply() {
    if (!this.pair.onPage) return
    const {state, told} = this.pair
    const asked = (globalThis.workbenchAsked ??= new URLSearchParams(location.search).get("theme") ?? "")
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
    for (const part of Object.values(this.pair.parts)) part.repaint?.()
  }

  leave() {
    this.scheme.removeEventListener("change", this.follow)
    this.host.disconnect()
  }

  // What is around the pictures, outside their shadow trees.
  get page() {
    let element = Bokeh.index.find_one(this.layout)?.el
    while (element && !element.closest(".workbench")) element = element.getRootNode().host
    return element?.closest(".workbench")
  }

  // It has its colours from a style sheet.
  tellPage(name) {
    const {page} = this
    if (page) page.dataset.theme = name
    if (document.body.classList.contains("wb-page")) document.body.dataset.theme = name
  }

  dye(was, now) {
    const fresh = new Map(Object.entries(was.colors).map(([role, color]) => [color, now.colors[role]]))
    const exchanged = (value) => fresh.get(value) ?? value
    const scaled = (by) => (size) => (typeof size === "number" ? size * by : `${parseFloat(size) * by}px`)
    const rules = [
      [/color$/, exchanged],
      [/font_size$/, scaled(now.type / was.type)],
      [/line_width$|^size$/, scaled(now.marks / was.marks)],
    ]
    for (const model of this.layout.references()) {
      if (model.type === "ColumnDataSource") this.exchange(model, exchanged)
      if (model.type === "HoverTool") model.tooltips = model.tooltips.replace(was.tip, now.tip)
      for (const {attr} of model) {
        const change = rules.find(([pattern]) => pattern.test(attr))?.[1]
        if (change === undefined) continue
        const value = model[attr]?.value ?? model[attr]
        if (typeof value !== "number" && typeof value !== "string") continue
        model[attr] = value === model[attr] ? change(value) : {...model[attr], value: change(value)}
      }
    }
    this.layout.styles = {...this.layout.styles, ...now.variables}
  }

  // Colours that stand in columns, one a mark.
  exchange(source, exchanged) {
    const columns = Object.entries(source.data).filter(([name]) => /color$/.test(name))
    for (const [name, column] of columns) {
      source.data[name] = Array.from(column, exchanged)
    }
    if (columns.length > 0) source.change.emit()
  }
}
