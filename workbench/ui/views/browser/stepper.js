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
      play: () => pair.state.setv({playing: !pair.state.playing}),
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

  // The level that one step leads to, also from between two levels and while on the way.
  next(direction) {
    const {position, target} = this
    const level = Math.sign(target - position) === direction ? target + direction
      : direction > 0 ? Math.floor(position + 1e-6) + 1 : Math.ceil(position - 1e-6) - 1
    return clamp(level, 0, 3)
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
    if (Math.abs(value - this.position) < 0.006) return // it only shows where we are
    this.position = this.target = value
    this.pair.note({level: Math.round(value)})
    this.pair.state.setv({playing: false})
    this.draw()
  }

  play(playing) {
    this.pair.shown.playing = playing
    if (!playing) {
      this.target = this.position
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

  draw() {
    this.pair.parts.marks.draw()
    this.drawStations()
  }

  drawStations() {
    const {position, models} = this
    const at = Math.round(position)
    const averaging = Number.isInteger(position) ? -1 : Math.ceil(position)
    models.stations.forEach((station, level) => {
      const classes = ["wb-station"]
      if (level === at) classes.push("wb-on")
      if (level < position) classes.push("wb-done")
      if (level === averaging) classes.push("wb-averaging")
      if (station.css_classes.join() !== classes.join()) station.css_classes = classes
    })
    models.now.text = models.sentences[at]
    models.position.value = position
  }
}
