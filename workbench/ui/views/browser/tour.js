// The guided tour: a card that points at one control after the other. Arrows and Escape
// work in it, and it stands in the browser's top layer, above whatever the host draws.

import { buttonIn, elementOf, shadowOf } from "./bokeh.js"
import { escaped } from "./formats.js"
import { calm, clamp } from "./numbers.js"

/** @import {LinkedPair} from "./pair.js" */
/** @import {Model, Part, Told} from "./types.js" */

/** @implements {Part} */
export class Tour {
  /** @type {Told["tour"]} */
  stops = []
  at = 0
  /** @type {HTMLElement | null} */
  card = null
  /** @type {HTMLElement | null} */
  place = null
  /** @type {Part["actions"]} */
  actions = { tour: () => this.start() }

  /** @param {LinkedPair} pair */
  constructor(pair) {
    this.pair = pair
    this.move = () => this.put()
    /** @param {KeyboardEvent} event */
    this.onEscape = (event) => {
      if (event.key !== "Escape") return
      event.stopPropagation()
      this.end(true)
    }
  }

  start() {
    this.end()
    this.stops = this.pair.told.tour.filter(([where]) => this.find(where))
    const card = document.createElement("div")
    card.className = "wb-tour"
    card.popover = "manual"
    card.setAttribute("role", "dialog")
    card.setAttribute("aria-label", "Tour")
    card.addEventListener("click", ({ target }) => {
      if (target instanceof HTMLButtonElement) this.press(target.name)
    })
    card.addEventListener("keydown", (event) => {
      event.stopPropagation()
      if (event.key === "ArrowRight") this.press("next")
      else if (event.key === "ArrowLeft") this.press("back")
    })
    this.card = card
    shadowOf(this.pair.models.look.layout)?.append(card)
    card.showPopover()
    addEventListener("keydown", this.onEscape, true)
    for (const what of ["scroll", "resize"]) addEventListener(what, this.move, true)
    this.go(0)
  }

  /**
   * Where a stop is on the page.
   * @param {string} where A selector, or the name of a model.
   * @returns {HTMLElement | null}
   */
  find(where) {
    if (/^[.#]/.test(where)) return document.querySelector(where)
    const all = Object.values(this.pair.models)
      .flatMap((view) => Object.values(view))
      .flat()
    const model = all.find((/** @type {Partial<Model> | null} */ one) => one?.name === where)
    return (model && elementOf(model)) ?? null
  }

  /** @param {string} name */
  press(name) {
    if (name === "close" || (name === "next" && this.at === this.stops.length - 1)) this.end(true)
    else if (name === "next") this.go(this.at + 1)
    else if (name === "back") this.go(Math.max(0, this.at - 1))
  }

  /** @param {number} at */
  go(at) {
    this.at = at
    const [where, title, text] = this.stops[at]
    const last = at === this.stops.length - 1
    this.mark("")
    this.place = this.find(where)
    if (!this.place || !this.card) return this.end(true)
    this.mark("3px solid var(--wb-accent)")
    this.place.scrollIntoView({ block: "center", behavior: calm() ? "auto" : "smooth" })
    this.card.innerHTML = `<b>${escaped(title)}</b><p aria-live="polite">${escaped(text)}</p><div>
      <span>${at + 1} of ${this.stops.length}</span><button type="button" name="close">Close</button>
      <button type="button" name="back" ${at === 0 ? "disabled" : ""}>Back</button>
      <button type="button" name="next">${last ? "Done" : "Next"}</button></div>`
    /** @type {HTMLElement | null} */
    const next = this.card.querySelector("[name=next]")
    next?.focus({ preventScroll: true })
    this.put()
  }

  /** @param {string} outline */
  mark(outline) {
    if (this.place) Object.assign(this.place.style, { outline, outlineOffset: "4px", borderRadius: "8px" })
  }

  // Below its place where there is room, else above, else upon it.
  put() {
    if (!this.place?.isConnected || !this.card) return this.end()
    const { left, top, bottom } = this.place.getBoundingClientRect()
    const { offsetWidth: width, offsetHeight: height } = this.card
    const below = bottom + 12 + height < innerHeight ? bottom + 12 : top - 12 - height
    const lowest = innerHeight - height - 12
    const y = below > 0 ? Math.min(below, lowest) : lowest
    Object.assign(this.card.style, {
      left: `${clamp(left, 12, Math.max(12, innerWidth - width - 24))}px`,
      top: `${y}px`,
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
    if (back) buttonIn(shadowOf(this.pair.models.bar.tour))?.focus()
  }
}
