// The three averages: where the stepper is between the levels, and where it goes.

const STEP_SECONDS = 1.6 // one average, at speed 1
const HOLD_SECONDS = 0.9 // between two of them, while playing

class Stepper {
  constructor(pair) {
    Object.assign(this, {pair, models: pair.models.stepper})
    this.position = 0 // where it is; a fraction between levels
    this.target = 0 // where it goes
    this.frame = 0 // of requestAnimationFrame; 0: at rest
    this.actions = {
      station: (_, {index}) => this.jump(index),
      step: () => this.jump(this.next(1)),
      back: () => this.jump(this.next(-1)),
      play: () => this.toggle(),
      position: ({value}) => this.drag(value),
      speed: ({active}) => pair.state.setv({speed: pair.told.speeds[active]}),
    }
  }

  render(changed) {
    const {state} = this.pair
    if (changed.has("playing")) this.play(state.playing)
    else if (changed.has("level") && state.level !== this.target) this.go(state.level)
    this.models.speed.active = this.pair.told.speeds.indexOf(state.speed)
    this.models.play.label = state.playing ? "Pause" : "Play"
  }

  // ---- where to ------------------------------------------------------------------

  // The level that one step leads to, also from between two levels and while on the way.
  next(direction) {
    const {position, target} = this
    const level = Math.sign(target - position) === direction ? target + direction
      : direction > 0 ? Math.floor(position + 1e-6) + 1 : Math.ceil(position - 1e-6) - 1
    return clamp(level, 0, 3)
  }

  toggle() {
    this.pair.state.setv({playing: !this.pair.state.playing})
  }

  jump(level) {
    this.pair.state.setv({playing: false})
    this.play(false)
    this.go(level)
  }

  go(level) {
    this.target = level
    this.pair.note({level})
    if (calm()) {
      this.position = level
      this.draw()
    }
    this.run()
  }

  drag(value) {
    if (this.railed || Math.abs(value - this.position) < 0.006) return // it only shows where we are
    this.position = this.target = value
    this.pair.note({level: Math.round(value)})
    this.pair.state.setv({playing: false})
    this.draw()
  }

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
    const tick = (now) => {
      this.frame = 0
      const {state, onPage} = this.pair
      if (!onPage) return
      const seconds = clamp((now - before) / 1000, 0, 0.1) * state.speed
      before = now
      const left = this.target - this.position
      if (left !== 0) {
        const stride = seconds / STEP_SECONDS
        this.position = stride >= Math.abs(left) ? this.target
          : this.position + Math.sign(left) * stride
        this.draw()
      } else if (!state.playing) {
        return
      } else if (this.position >= 3) {
        state.setv({playing: false})
        return
      } else if ((held += seconds) > HOLD_SECONDS) {
        held = 0
        this.go(Math.floor(this.position) + 1)
      }
      if (this.frame === 0) this.frame = requestAnimationFrame(tick)
    }
    this.frame = requestAnimationFrame(tick)
  }

  // ---- what it shows ---------------------------------------------------------------

  // How far the points of a level are on their way to the next.
  way(level) {
    return ease(clamp(this.position - level))
  }

  // `share_on_the_way` in stepper.py is the same.
  shareAt(position = this.position) {
    const {kept} = this.models
    const level = Math.min(Math.floor(position), 2)
    const way = ease(position - level)
    return kept[level + 1] + (1 - way) ** 2 * (kept[level] - kept[level + 1])
  }

  // The shares that the levels keep are others now.
  drawCurve() {
    const places = Array.from({length: 97}, (_, n) => n / 32)
    const line = places.map((x) => `${100 * x},${100 * (1 - this.shareAt(x))}`).join(" L")
    const paths = this.pair.element(this.models.left)?.querySelectorAll("path")
    paths?.forEach((path) => path.setAttribute("d", `M0,100 L${line} L300,100 Z`))
    this.drawRail()
  }

  draw() {
    this.pair.parts.marks.draw()
    this.drawStations()
    this.drawRail()
  }

  // Every change of a Bokeh widget lays the whole page out anew, which takes longer than
  // a frame. So on the way only the elements are changed, and the models at rest.
  drawStations() {
    const {position, models, pair} = this
    const at = Math.round(position)
    const averaging = Number.isInteger(position) ? -1 : Math.ceil(position)
    models.stations.forEach((station, level) => {
      const list = pair.element(station)?.host.classList
      list?.toggle("wb-on", level === at)
      list?.toggle("wb-done", level < position)
      list?.toggle("wb-averaging", level === averaging)
    })
    if (this.counting !== averaging && this.counting > 0) this.countDown(this.counting, 1)
    if (averaging > 0) this.countDown(averaging, this.way(averaging - 1))
    this.counting = averaging
    pair.parts.marks.nameIndex(averaging)
    const text = averaging < 0 ? models.sentences[at] : models.doing[averaging]
    const now = pair.element(models.now)?.querySelector(".bk-clearfix")
    if (now && text !== this.text) now.innerHTML = this.text = text
    if (averaging < 0) models.now.text = text
  }

  // While its average is taken, a station's numbers run from those of the level before.
  countDown(level, way) {
    const {stations, counts, kept} = this.models
    const root = this.pair.element(stations[level])
    if (root === undefined) return
    const [from, to] = [counts[level - 1], counts[level]].map(Math.log)
    const share = way === 1 ? kept[level] : this.shareAt()
    root.querySelector(".wb-count").textContent = Math.round(Math.exp(mix(from, to, way))).toLocaleString("en-US")
    root.querySelector(".wb-kept").textContent = `${percent(share)} of G’s trace`
    root.querySelector(".wb-bar span").style.width = `${100 * share}%`
  }

  drawRail() {
    const {position, target, models, pair} = this
    const share = this.shareAt()
    const left = pair.element(models.left)?.querySelector(".wb-curve-left")
    left?.style.setProperty("--at", `${(100 * position) / 3}%`)
    left?.style.setProperty("--share", share)
    const told = left?.querySelector("b")
    if (told) told.textContent = percent(share)
    const handle = pair.element(models.position)?.querySelector(".noUi-target")?.noUiSlider
    this.railed = true
    if (position === target || handle === undefined) models.position.value = position
    else handle.set(position, false)
    this.railed = false
  }
}
