// The three averages: where the stepper is between the levels, and where it goes.

import { slide, textIn } from "./bokeh.js"
import { percent } from "./formats.js"
import { calm, clamp, ease, mix } from "./numbers.js"
import { advance, nextLevel, shareAt } from "./stepping.js"

/** @import {LinkedPair} from "./pair.js" */
/** @import {Part} from "./types.js" */

const STEP_SECONDS = 1.6 // one average, at speed 1
const HOLD_SECONDS = 0.9 // between two of them, while playing

/** @implements {Part} */
export class Stepper {
  position = 0 // where it is; a fraction between levels
  target = 0 // where it goes
  frame = 0 // of requestAnimationFrame; 0: at rest
  railed = false // whether the rail is only being shown where we are
  counting = -1 // the level whose numbers are running
  text = "" // the sentence that is shown

  /** @param {LinkedPair} pair */
  constructor(pair) {
    this.pair = pair
    this.models = pair.models.stepper
    const { models } = this
    /** @type {Part["actions"]} */
    this.actions = {
      station: (_, index) => this.jump(index),
      step: () => this.jump(this.next(1)),
      back: () => this.jump(this.next(-1)),
      play: () => this.toggle(),
      position: () => this.drag(models.position.value),
      maths: () => this.showMaths(),
      speed: () => pair.state.setv({ speed: pair.told.speeds[models.speed.active] }),
    }
  }

  /** @type {Required<Part>["render"]} */
  render(changed) {
    const { state } = this.pair
    if (changed.has("playing")) this.play(state.playing)
    else if (changed.has("level") && state.level !== this.target) this.go(state.level)
    this.models.speed.active = this.pair.told.speeds.indexOf(state.speed)
    this.models.play.label = state.playing ? "Pause" : "Play"
  }

  // ---- where to ------------------------------------------------------------------

  /** @param {1 | -1} direction */
  next(direction) {
    return nextLevel(this.position, this.target, direction)
  }

  toggle() {
    const playing = !this.pair.state.playing
    this.pair.state.setv({ playing })
    if (!playing) return
    const { figure } = this.pair.models.embedding // what is about to move, on a small screen
    this.pair.host(figure)?.scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" })
  }

  /** @param {number} level */
  jump(level) {
    this.pair.state.setv({ playing: false })
    this.play(false)
    this.go(level)
  }

  /** @param {number} level */
  go(level) {
    this.target = level
    this.pair.note({ level })
    if (calm()) {
      this.position = level
      this.draw()
    }
    this.run()
  }

  /** @param {number} value */
  drag(value) {
    if (this.railed || Math.abs(value - this.position) < 0.006) return // it only shows where we are
    this.position = this.target = value
    this.pair.note({ level: Math.round(value) })
    this.pair.state.setv({ playing: false })
    this.draw()
  }

  /** @param {boolean} playing */
  play(playing) {
    this.pair.shown.playing = playing
    if (!playing) {
      this.target = this.position
      this.drawRail()
      return
    }
    if (this.position >= 3) this.position = 0
    this.go(Math.floor(this.position) + 1)
  }

  run() {
    if (this.frame !== 0) return
    let before = performance.now()
    let held = 0
    /** @param {number} now */
    const tick = (now) => {
      this.frame = 0
      const { state, onPage } = this.pair
      if (!onPage) return
      const seconds = clamp((now - before) / 1000, 0, 0.1) * state.speed
      before = now
      if (this.target !== this.position) {
        this.position = advance(this.position, this.target, seconds / STEP_SECONDS)
        this.draw()
      } else if (!state.playing) {
        return
      } else if (this.position >= 3) {
        state.setv({ playing: false })
        return
      } else {
        held += seconds
        if (held > HOLD_SECONDS) {
          held = 0
          this.go(Math.floor(this.position) + 1)
        }
      }
      if (this.frame === 0) this.frame = requestAnimationFrame(tick)
    }
    this.frame = requestAnimationFrame(tick)
  }

  appear() {
    this.drawCurve()
    this.drawStations()
  }

  // A property that all text of the page inherits: `linked.css` hides formulas by it.
  showMaths() {
    const { style } = document.documentElement
    const shown = style.getPropertyValue("--wb-maths") === "block"
    style.setProperty("--wb-maths", shown ? "none" : "block")
    this.models.maths.label = shown ? "Show the maths" : "Hide the maths"
  }

  // ---- what it shows ---------------------------------------------------------------

  /**
   * How far the points of a level are on their way to the next.
   * @param {number} level
   */
  way(level) {
    return ease(clamp(this.position - level))
  }

  // The shares that the levels keep are others now.
  drawCurve() {
    const { kept, left } = this.models
    const places = Array.from({ length: 97 }, (_, n) => n / 32)
    const line = places.map((x) => `${100 * x},${100 * (1 - shareAt(kept, x))}`).join(" L")
    const paths = this.pair.element(left)?.querySelectorAll("path") ?? []
    for (const path of paths) path.setAttribute("d", `M0,100 L${line} L300,100 Z`)
    this.drawRail()
  }

  draw() {
    this.pair.parts.marks.draw()
    this.pair.parts.spectrum.follow()
    this.drawStations()
    this.drawRail()
  }

  // Every change of a Bokeh widget lays the whole page out anew, which takes longer than
  // a frame. So on the way only the elements are changed, and the models at rest.
  drawStations() {
    const { position, models, pair } = this
    const at = Math.round(position)
    const averaging = Number.isInteger(position) ? -1 : Math.ceil(position)
    models.stations.forEach((station, level) => {
      const list = pair.host(station)?.classList
      list?.toggle("wb-on", level === at)
      list?.toggle("wb-done", level < position)
      list?.toggle("wb-averaging", level === averaging)
    })
    if (this.counting !== averaging && this.counting > 0) this.countDown(this.counting, 1)
    if (averaging > 0) this.countDown(averaging, this.way(averaging - 1))
    this.counting = averaging
    pair.parts.marks.nameIndex(averaging)
    const resting = at === 0 ? `${models.sentences[0]} ${models.todo}` : models.sentences[at]
    const text = averaging < 0 ? resting : models.doing[averaging]
    const now = textIn(pair.element(models.now))
    if (now && text !== this.text) {
      this.text = text
      now.innerHTML = text
    }
    if (averaging < 0) models.now.text = text
  }

  /**
   * While its average is taken, a station's numbers run from those of the level before.
   * @param {number} level
   * @param {number} way
   */
  countDown(level, way) {
    const { counts, kept } = this.models
    const [from, to] = [counts[level - 1], counts[level]].map(Math.log)
    const count = Math.round(Math.exp(mix(from, to, way)))
    this.writeStation(level, way === 1 ? kept[level] : shareAt(kept, this.position), count)
  }

  /**
   * @param {number} level
   * @param {number} share Of G's trace, that it keeps.
   * @param {number} [count] Of its gradients or means.
   */
  writeStation(level, share, count) {
    const root = this.pair.element(this.models.stations[level])
    /** @param {string} where @returns {HTMLElement | null | undefined} */
    const find = (where) => root?.querySelector(where)
    const [number, kept, bar] = [".wb-count", ".wb-kept", ".wb-bar span"].map(find)
    if (number && count !== undefined) number.textContent = count.toLocaleString("en-US")
    if (kept) kept.textContent = `${percent(share)} of G’s trace`
    if (bar) bar.style.width = `${100 * share}%`
  }

  drawRail() {
    const { position, target, models, pair } = this
    const share = shareAt(models.kept, position)
    const left = pair.element(models.left)
    /** @type {HTMLElement | null | undefined} */
    const curve = left?.querySelector(".wb-curve-left")
    curve?.style.setProperty("--at", `${(100 * position) / 3}%`)
    curve?.style.setProperty("--share", String(share))
    const told = curve?.querySelector("b")
    if (told) told.textContent = percent(share)
    this.railed = true
    if (position === target || !slide(pair.element(models.position), position)) {
      models.position.value = position
    }
    this.railed = false
  }
}
