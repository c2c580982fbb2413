// The film: earlier epochs of the run. A moment's numbers, or those between two of them,
// are put where those of the study itself stood, and all is drawn as ever: the stepper,
// the selection and the knock-out work at every epoch.

const MOMENT_SECONDS = 1.3 // from one moment to the next, at speed 1
const REST_SECONDS = 0.6 // at each of them, while playing

// Between two numbers, evenly by their ratio where they have one sign.
const between = (from, to, t) => (from * to > 0
  ? Math.sign(from) * Math.exp(mix(Math.log(Math.abs(from)), Math.log(Math.abs(to)), t))
  : mix(from, to, t))

class Film {
  constructor(pair) {
    Object.assign(this, {pair, models: pair.models.film})
    this.last = this.models.moments.length // the study itself
    this.position = this.target = this.settled = this.railed = this.last
    this.frame = 0 // of requestAnimationFrame; 0: at rest
    this.actions = {
      stops: ({active}) => this.jump(active),
      rail: ({value}) => this.drag(value),
      roll: () => pair.state.setv({rolling: !pair.state.rolling}),
    }
    if (this.last > 0) this.moments = [...this.models.moments.map(unpacked), this.present()]
  }

  // What is drawn now, as a moment.
  present() {
    const {embedding, spectrum} = this.pair.models
    const data = (sources) => Object.fromEntries(
      Object.entries(sources).map(([name, source]) => [name, {...source.data}]))
    return {
      homes: embedding.sources.map(({data: {home_x, home_y}}) =>
        ({x: Float32Array.from(home_x), y: Float32Array.from(home_y)})),
      eigenvalues: data(spectrum.eigenvalues),
      parts: Object.fromEntries(Object.entries(data(spectrum.parts)).map(([role, {value}]) => [role, value])),
      curves: data(spectrum.curves),
      frames: {...spectrum.frames},
    }
  }

  get moving() {
    return this.frame !== 0
  }

  render(changed) {
    if (this.last === 0) return
    const {state} = this.pair
    if (changed.has("rolling")) this.roll(state.rolling)
    else if (changed.has("moment") && this.wanted !== this.target) this.go(this.wanted)
    if (changed.has("operator") || changed.has("scale")) this.placeSpectrum(false)
    this.models.roll.label = state.rolling ? "Pause training" : "Play training"
  }

  get wanted() {
    const {moment} = this.pair.state
    return moment < 0 ? this.last : clamp(moment, 0, this.last)
  }

  // Bokeh tells of a change when we are done, so what we wrote is known by its value.
  jump(moment) {
    if (moment === this.settled) return // it only shows where we are
    this.pair.note({rolling: false})
    this.models.roll.label = "Play training"
    this.go(moment)
  }

  go(moment) {
    this.target = moment
    this.pair.note({moment: moment === this.last ? -1 : moment})
    if (calm()) {
      this.position = moment
      this.draw()
      this.settle()
    } else this.run()
  }

  drag(value) {
    if (value === this.railed || Math.abs(value - this.position) < 0.006) return // likewise
    this.position = this.target = value
    const moment = Math.round(value)
    this.pair.note({rolling: false, moment: moment === this.last ? -1 : moment})
    this.draw()
    this.settle()
  }

  roll(rolling) {
    if (!rolling) {
      this.go(Math.round(this.position))
      return
    }
    if (this.position >= this.last) {
      this.position = this.target = 0
      this.draw()
      this.settle()
    }
    this.go(Math.floor(this.position) + 1)
  }

  run() {
    if (this.frame !== 0) return
    let before = performance.now()
    let rested = 0
    const tick = (now) => {
      this.frame = 0
      const {state, onPage} = this.pair
      if (!onPage) return
      const seconds = clamp((now - before) / 1000, 0, 0.1) * state.speed
      before = now
      const left = this.target - this.position
      if (left !== 0) {
        const stride = (seconds / MOMENT_SECONDS) * Math.max(1, Math.abs(left))
        const arrives = stride >= Math.abs(left)
        this.position = arrives ? this.target : this.position + Math.sign(left) * stride
        if (!arrives) this.frame = -1 // still moving
        this.draw()
        this.frame = 0
        if (arrives) this.settle()
      } else if (!state.rolling) {
        return
      } else if (this.position >= this.last) {
        state.setv({rolling: false})
        return
      } else if ((rested += seconds) > REST_SECONDS) {
        rested = 0
        this.go(Math.round(this.position) + 1)
      }
      if (this.frame === 0) this.frame = requestAnimationFrame(tick)
    }
    this.frame = requestAnimationFrame(tick)
  }

  // ---- what it puts in its place ---------------------------------------------------

  // The moments on either side of where we are, and how far it is between them.
  get place() {
    const at = Math.min(Math.floor(this.position), this.last)
    const t = this.position - at
    return [this.moments[at], this.moments[Math.min(at + 1, this.last)], ease(t)]
  }

  draw() {
    this.placeMarks()
    this.placeSpectrum(true)
    this.drawRail()
  }

  placeMarks() {
    const [from, to, t] = this.place
    const {sources} = this.pair.models.embedding
    sources.forEach(({data}, level) => {
      const [a, b] = [from.homes[level], to.homes[level]]
      for (let row = 0; row < a.x.length; row++) {
        data.home_x[row] = a.x[row] * (1 - t) + b.x[row] * t
        data.home_y[row] = a.y[row] * (1 - t) + b.y[row] * t
      }
    })
    sources.forEach(({data}, level) => {
      const parents = this.pair.models.embedding.parents[level]
      const above = sources[level + 1]?.data
      for (let row = 0; row < parents.length; row++) {
        const parent = parents[row]
        data.target_x[row] = parent < 0 ? data.home_x[row] : above.home_x[parent]
        data.target_y[row] = parent < 0 ? data.home_y[row] : above.home_y[parent]
      }
    })
    const {marks} = this.pair.parts
    marks.drawn = []
    marks.draw()
  }

  placeSpectrum(drawn) {
    const [from, to, t] = this.place
    const {spectrum} = this.pair.models
    const view = this.pair.parts.spectrum
    const {operator, scale, knockout} = this.pair.state
    for (const [name, {data}] of Object.entries(spectrum.eigenvalues)) {
      for (const column of ["value", "residual", "subtracted", "projected"]) {
        const [a, b] = [from.eigenvalues[name][column], to.eigenvalues[name][column]]
        if (a && b) data[column] = t === 0 ? a : Float64Array.from(a, (value, j) => between(value, b[j], t))
      }
    }
    for (const [role, {data}] of Object.entries(spectrum.parts)) {
      const [a, b] = [from.parts[role], to.parts[role]]
      data.value = t === 0 ? a : Float64Array.from(a, (value, j) => between(value, b[j], t))
      data.told = Array.from(data.value, (value) => rounded(value, 3))
    }
    for (const [key, source] of Object.entries(spectrum.curves)) {
      const seen = key.endsWith(scale) && (operator === "all" || key.startsWith(`${operator}/`))
      if (t === 0) source.data = from.curves[key]
      else if (seen) source.data = blended(from.curves[key], to.curves[key], t)
    }
    for (const key of Object.keys(spectrum.frames)) {
      const [a, b] = [from.frames[key], to.frames[key]]
      spectrum.frames[key] = t === 0 ? a : {
        ...(t < 0.5 ? a : b),
        x: a.x.map((end, n) => between(end, b.x[n], t)),
        y: a.y.map((end, n) => mix(end, b.y[n], t)),
        ...Object.fromEntries(["width", "bump", "lowest"].map((name) => [name, between(a[name], b[name], t)])),
      }
    }
    if (!drawn) return
    if (view.removed !== null) {
      view.removed = Float64Array.from(spectrum.eigenvalues.G.data[knockout === "none" ? "value" : knockout])
    }
    view.drawFrame()
    view.drawSticks()
    view.drawParts()
    view.drawCut(true)
    this.pair.parts.compare.drawSpectrum()
  }

  // ---- what it says ----------------------------------------------------------------

  get nearest() {
    return Math.round(this.position)
  }

  // On the way only elements are changed: each change of a widget lays the page out anew.
  drawRail() {
    const {models, nearest, position} = this
    const text = models.texts[nearest].when
    const when = this.pair.element(models.when)?.querySelector(".bk-clearfix")
    if (when && when.innerHTML !== text) when.innerHTML = text
    const handle = this.pair.element(models.rail)?.querySelector(".noUi-target")?.noUiSlider
    if (this.moving && handle) handle.set(position, false)
    else models.rail.value = this.railed = position
  }

  // Tables and texts are about the nearest moment.
  settle() {
    const {models, nearest, pair} = this
    if (nearest === this.settled) return
    this.settled = nearest
    const text = models.texts[nearest]
    models.when.text = text.when
    models.stops.active = nearest
    for (const name of ["automatic", "rule", "notes"]) pair.told[name] = text[name]
    pair.told.overlap = pair.told.overlap.map((row, j) => text.overlap[j] ?? row.map(() => 0))
    this.settleTable(text)
    this.settleStations(text)
    const {outliers} = pair.models.controls
    outliers.labels = outliers.labels.map((label, j) =>
      (label.includes("λ") ? `${j + 1}   λ ${text.chips[j] ?? "–"}` : label))
    const {titles} = pair.told
    Object.assign(titles, text.titles)
    titles.outliers = titles.outliers.map((title, j) => title.replace(/λ = [^:]*/, `λ = ${text.chips[j] ?? "–"}`))
    for (const words of pair.parts.look.page?.querySelectorAll("[data-moment]") ?? []) {
      words.hidden = Number(words.dataset.moment) !== nearest
    }
    pair.parts.controls.render()
    pair.parts.spectrum.drawSticks()
    pair.parts.spectrum.drawCut(true)
    pair.dress()
  }

  settleTable({span}) {
    const {cells} = this.pair.models.overlap
    const {data} = cells
    const numbers = data.text[0] !== ""
    for (let cell = 0; cell < data.value.length; cell++) {
      const [c, j] = [data.c[cell], data.j[cell]]
      data.value[cell] = clamp(c < 0 ? span[j] ?? 0 : this.pair.told.overlap[j][c])
      if (numbers) data.text[cell] = (100 * data.value[cell]).toFixed(0)
    }
    this.pair.parts.table.draw()
    this.pair.parts.table.drawEdge()
  }

  settleStations({kept, sentences}) {
    const {stepper} = this.pair.models
    stepper.sentences = sentences
    stepper.kept = kept
    this.pair.parts.stepper.drawStations()
    this.pair.parts.stepper.drawCurve()
    stepper.stations.forEach((station, level) => {
      const root = this.pair.element(station)
      const [told, bar] = [root?.querySelector(".wb-kept"), root?.querySelector(".wb-bar span")]
      if (told) told.textContent = `${percent(kept[level])} of G’s trace`
      if (bar) bar.style.width = `${100 * kept[level]}%`
    })
  }

  dress() {
    if (this.last === 0) return
    const {titles, labels} = this.pair.told
    labelGroup(this.pair.element(this.models.stops), this.models.stops, labels.stops, this.models.texts.map(({when}) => when.replace(/<.*?>/g, "")))
    const rail = this.pair.element(this.models.rail)
    rail?.querySelector("[role=slider]")?.setAttribute("aria-label", labels.rail)
    if (rail) rail.host.title = labels.rail
    const button = this.pair.element(this.models.roll)?.querySelector("button")
    if (button) button.title = titles.roll
  }
}

// A moment whose curves have their grids: even, between the ends of each side.
const unpacked = (moment) => ({...moment, curves: Object.fromEntries(
  Object.entries(moment.curves).map(([key, curve]) => [key, gridded(curve)]))})

const gridded = ({spans, ...columns}) => {
  const {y} = columns
  const each = spans.length > 0 ? y.length / spans.length - 1 : 0
  const x = spans.flatMap(([left, right]) =>
    [...Array.from({length: each}, (_, n) => mix(left, right, n / (each - 1))), NaN])
  return {x: Float64Array.from(x), ...columns}
}

// Between two densities; where one has a side that the other lacks, the nearer of them.
const blended = (from, to, t) => {
  if (from.y.length !== to.y.length) return t < 0.5 ? from : to
  const [a, b] = [spansOf(from.x), spansOf(to.x)]
  const spans = a.map(([left, right], n) => [between(left, b[n][0], t), between(right, b[n][1], t)])
  const mixed = (column) => Float32Array.from(from[column], (value, n) => mix(value, to[column][n], t))
  const columns = ["y", "low", "high", "rest"].filter((column) => from[column] && to[column])
  return gridded({spans, ...Object.fromEntries(columns.map((column) => [column, mixed(column)]))})
}

const spansOf = (x) => {
  const ends = Array.from(x.keys()).filter((n) => isNaN(x[n]))
  return ends.map((end, n) => [x[n === 0 ? 0 : ends[n - 1] + 1], x[end - 1]])
}
