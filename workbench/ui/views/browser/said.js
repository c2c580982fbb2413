// The words below the pictures: a button in a sentence shows what the sentence is about.

/** @import {LinkedPair} from "./pair.js" */

export class Said {
  actions = {}

  /** @param {LinkedPair} pair */
  constructor(pair) {
    this.pair = pair
    /** @param {Event} event */
    this.onClick = (event) => this.show(event)
    document.addEventListener("click", this.onClick)
  }

  leave() {
    document.removeEventListener("click", this.onClick)
  }

  // The marks of a part of G, upon the spectrum that holds them.
  /** @param {Event} event */
  show({ target }) {
    if (!(target instanceof Element)) return
    const button = target.closest("[data-shows]")
    const { page } = this.pair.parts.look
    if (!(button instanceof HTMLElement) || !page?.contains(button)) return
    const { state, models } = this.pair
    state.setv(shown(button.dataset.shows ?? "", state))
    this.pair.host(models.spectrum.figure)?.scrollIntoView({ block: "nearest" })
  }
}

/**
 * What the state is once a part is drawn, with the others that were.
 * @param {string} role
 * @param {{parts: string, operator: string}} state
 */
export const shown = (role, { parts, operator }) => {
  const others = parts.split(",").filter((part) => part !== "" && part !== role)
  return {
    parts: [...others, role].join(","),
    operator: operator === "H" ? "G" : operator,
    knockout: "none",
  }
}
