// The guided tour: a card that points at one control after the other. Arrows and Escape
// work in it, and it stands in the browser's top layer, above whatever the host draws.

class Tour {
  constructor(pair) {
    Object.assign(this, {pair, at: 0, card: null, place: null})
    this.actions = {tour: () => this.start()}
  }

  start() {
    this.end()
    this.stops = this.pair.told.tour.filter(([where]) => this.find(where))
    this.card = document.createElement("div")
    this.card.className = "wb-tour"
    this.card.popover = "manual"
    this.card.setAttribute("role", "dialog")
    this.card.setAttribute("aria-label", "Tour")
    this.card.addEventListener("click", ({target}) => this.press(target.name))
    this.card.addEventListener("keydown", (event) => {
      event.stopPropagation()
      this.press({ArrowRight: "next", ArrowLeft: "back"}[event.key])
    })
    Bokeh.index.find_one(this.pair.models.look.layout).shadow_el.append(this.card)
    this.card.showPopover()
    this.move = () => this.put()
    this.onEscape = (event) => {
      if (event.key !== "Escape") return
      event.stopPropagation()
      this.end(true)
    }
    addEventListener("keydown", this.onEscape, true)
    for (const what of ["scroll", "resize"]) addEventListener(what, this.move, true)
    this.go(0)
  }

  // Where a stop is on the page, or undefined.
  find(where) {
    if (/^[.#]/.test(where)) return document.querySelector(where) ?? undefined
    const all = Object.values(this.pair.models).flatMap((view) => Object.values(view)).flat()
    const model = all.find((one) => one?.name === where)
    return model && Bokeh.index.find_one(model)?.el
  }

  press(name) {
    if (name === "close" || (name === "next" && this.at === this.stops.length - 1)) this.end(true)
    else if (name === "next") this.go(this.at + 1)
    else if (name === "back") this.go(Math.max(0, this.at - 1))
  }

  go(at) {
    this.at = at
    const [where, title, text] = this.stops[at]
    const last = at === this.stops.length - 1
    this.mark("")
    this.place = this.find(where)
    if (!this.place) return this.end(true)
    this.mark("3px solid var(--wb-accent)")
    this.place.scrollIntoView({block: "center", behavior: calm() ? "auto" : "smooth"})
    this.card.innerHTML = `<b>${escape(title)}</b><p aria-live="polite">${escape(text)}</p><div>
      <span>${at + 1} of ${this.stops.length}</span><button type="button" name="close">Close</button>
      <button type="button" name="back" ${at === 0 ? "disabled" : ""}>Back</button>
      <button type="button" name="next">${last ? "Done" : "Next"}</button></div>`
    this.card.querySelector("[name=next]").focus({preventScroll: true})
    this.put()
  }

  mark(outline) {
    if (this.place) Object.assign(this.place.style, {outline, outlineOffset: "4px", borderRadius: "8px"})
  }

  // Below its place where there is room, else above, else upon it.
  put() {
    if (!this.place.isConnected) return this.end()
    const {left, top, bottom} = this.place.getBoundingClientRect()
    const {offsetWidth: width, offsetHeight: height} = this.card
    const below = bottom + 12 + height < innerHeight ? bottom + 12 : top - 12 - height
    const lowest = innerHeight - height - 12
    const y = below > 0 ? Math.min(below, lowest) : lowest
    Object.assign(this.card.style, {
      left: `${clamp(left, 12, Math.max(12, innerWidth - width - 24))}px`, top: `${y}px`,
    })
  }

  leave() {
    this.end()
  }

  end(back = false) {
    if (!this.card) return
    removeEventListener("keydown", this.onEscape, true)
    for (const what of ["scroll", "resize"]) removeEventListener(what, this.move, true)
    this.mark("")
    this.card.remove()
    this.card = this.place = null
    if (back) Bokeh.index.find_one(this.pair.models.bar.tour)?.shadow_el.querySelector("button").focus()
  }
}
