// The menu: the theme, and what can be taken away.

import { buttonIn, labelGroup, pictureOf } from "./bokeh.js"
import { escaped } from "./formats.js"

/** @import {LinkedPair} from "./pair.js" */
/** @import {Part, StateValues, Titles} from "./types.js" */

/** @implements {Part} */
export class Bar {
  /** @param {LinkedPair} pair */
  constructor(pair) {
    this.pair = pair
    this.models = pair.models.bar
    const { state, told } = pair
    /** @type {Part["actions"]} */
    this.actions = {
      theme: () => state.setv({ theme: told.themeNames[this.models.theme.active] }),
      more: () => this.open(!this.models.menu.visible),
      picture: (_, index) => this.picture(index),
      file: (_, index) => state.setv({ wanted: told.files[index] }),
    }
  }

  /** @type {Required<Part>["render"]} */
  render(changed) {
    const { state, told } = this.pair
    if (changed.has("theme")) this.models.theme.active = told.themeNames.indexOf(state.theme)
    if (changed.has("wanted") && state.wanted) this.say(`Making: ${state.wanted}…`)
    if (changed.has("download") && state.download.name) this.unpack(state.download)
  }

  dress() {
    const { models, pair } = this
    const { labels, titles } = pair.told
    labelGroup(pair.element(models.theme), models.theme.active, labels.theme, titles.theme)
    for (const model of [models.tour, models.more, ...models.chips]) {
      const [name, index] = String(model.name).split(" ")
      const title = titles[/** @type {keyof Titles} */ (name)]
      const button = buttonIn(pair.element(model))
      if (button) button.title = typeof title === "string" ? title : title[Number(index)]
    }
    buttonIn(pair.element(models.more))?.setAttribute("aria-expanded", String(models.menu.visible))
  }

  /** @param {boolean} visible */
  open(visible) {
    this.models.menu.visible = visible
    this.dress()
  }

  /**
   * A picture of one view as it is drawn now, upon the page's background.
   * @param {number} index
   */
  async picture(index) {
    const { pictures, types, stem } = this.pair.told
    const [name, type] = [pictures[Math.floor(index / types.length)], types[index % types.length]]
    try {
      const { figure } = this.pair.models[name]
      this.save(`${stem}-${name}.${type}`, await pictureOf(figure, type, this.pair.colors.background))
    } catch (error) {
      console.warn(error)
      this.say("This picture could not be made; try the other format, or a smaller window.")
    }
  }

  /**
   * What Python has sent: `data` is base64, or there is none where it failed.
   * @param {StateValues["download"]} download
   */
  unpack({ name = "", type, data }) {
    if (!data) {
      this.say(`${name} could not be made.`)
      return
    }
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))
    this.save(name, new Blob([bytes], { type }))
    this.say(`${name} is among your downloads.`)
  }

  /** @param {string} text */
  say(text) {
    this.models.status.setv({ text: escaped(text), visible: true })
  }

  /**
   * @param {string} name
   * @param {Blob} blob
   */
  save(name, blob) {
    const link = document.createElement("a")
    link.href = URL.createObjectURL(blob)
    link.download = name
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 60000)
  }
}
