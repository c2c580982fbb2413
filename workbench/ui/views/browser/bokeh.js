// BokehJS inside: all that is no part of what its documentation promises stands here and
// nowhere else, with what is needed of it (`lacking`). What it promises, such as models,
// their properties and `setv`, is used everywhere.

/** @import {Figure, Model} from "./types.js" */

/**
 * The inside of BokehJS, as far as it is used.
 *
 * @typedef {(...given: unknown[]) => unknown} Method
 * @typedef {CanvasRenderingContext2D | {save(): void}} Context Pixels, or lines of an SVG.
 * @typedef {{el: HTMLElement, shadow_el: ShadowRoot}} View
 * @typedef {{_paint: (ctx: Context, indices: Numbers, more?: unknown) => void,
 *   model: {size: {value: number}}}} GlyphView
 * @typedef {{glyph: GlyphView, _paint: (ctx: Context) => void, plot_view: FigureView,
 *   xscale: Scale, yscale: Scale} & Record<string, object | undefined>} MarksView
 * @typedef {{compute(value: number): number}} Scale
 * @typedef {{_update: (css: string) => void, el: HTMLElement, still?: boolean}} Sheet
 * @typedef {View & {
 *   frame: {bbox: {x: number, y: number, width: number, height: number}},
 *   style: Sheet, renderer_views: Map<unknown, MarksView>, still?: boolean,
 *   views: {find_one(model: unknown): MarksView | null}, is_destroyed: boolean,
 *   request_paint(view: unknown): void, repaint(): void, throttled_paint: unknown,
 *   export(type: string): {to_blob(): Promise<Blob>},
 * }} FigureView
 * @typedef {{connect_signals: Method & {letsGo?: boolean}, remove: Method,
 *   lettingGo?: AbortController}} PlotPrototype
 * @typedef {{_recompute_all_models: Method, _schedule_recompute_all_models: Method,
 *   _recompute_timeout: number, _new_models: Set<Model>}} Document
 * @typedef {{
 *   version: string,
 *   index: {find_one(model: unknown): View | null},
 *   Models: {get(name: string): {prototype: {default_view: {prototype: object}}}},
 *   require(name: string): {Document: {prototype: object}},
 * }} BokehJS
 * @import {Numbers} from "./types.js"
 */

const bokeh = () => /** @type {{Bokeh: BokehJS}} */ (/** @type {unknown} */ (globalThis)).Bokeh

// ---- what is needed, and whether it is there --------------------------------------------

/** Of a view, by its model's name, or of another class: what is called or replaced here. */
const NEEDED = {
  Plot: ["connect_signals", "remove", "repaint", "request_paint", "export"],
  Scatter: ["_paint"],
  GlyphRenderer: ["_paint"],
  Document: ["_recompute_all_models", "_schedule_recompute_all_models"],
}

/** Of the view of a figure that is drawn. */
const NEEDED_OF_FIGURES = ["throttled_paint", "renderer_views", "style", "frame", "views"]

const prototypes = () => ({
  Plot: bokeh().Models.get("Plot").prototype.default_view.prototype,
  Scatter: bokeh().Models.get("Scatter").prototype.default_view.prototype,
  GlyphRenderer: bokeh().Models.get("GlyphRenderer").prototype.default_view.prototype,
  Document: bokeh().require("document").Document.prototype,
})

/** What this BokehJS lacks, as "Plot.repaint"; nothing where all is well. */
export const lacking = () => {
  const { Models, require, index } = bokeh()
  if (!Models?.get || !require || !index?.find_one) return ["Bokeh.Models", "Bokeh.require", "Bokeh.index"]
  const found = Object.entries(prototypes())
  return found.flatMap(([name, prototype]) =>
    NEEDED[/** @type {keyof typeof NEEDED} */ (name)]
      .filter((method) => typeof Reflect.get(prototype, method) !== "function")
      .map((method) => `${name}.${method}`),
  )
}

/** The same of figures that are on the page. @param {Figure[]} figures */
export const lackingOf = (figures) =>
  figures.flatMap((figure) => {
    const view = figureView(figure)
    if (view === null) return ["a view of each figure"]
    const missing = NEEDED_OF_FIGURES.filter((name) => !(name in view)).map((name) => `Figure.${name}`)
    if (missing.length > 0) return missing
    if (typeof view.style._update !== "function") missing.push("Figure.style._update")
    for (const { glyph, xscale } of view.renderer_views.values()) {
      if (glyph === undefined) continue // an axis, a span
      if (typeof xscale?.compute !== "function") missing.push("GlyphRenderer.xscale")
    }
    return [...new Set(missing)]
  })

/** Say what is missing, in one sentence. @param {string[]} missing */
export const inOneSentence = (missing) =>
  `BokehJS ${bokeh().version} lacks what the pictures need (${missing.join(", ")}); ` +
  "install the version of bokeh that the workbench asks for, and reload the page."

// ---- views and their elements -----------------------------------------------------------

/**
 * The view of a model on this page.
 * @param {unknown} model
 */
const viewOf = (model) => bokeh().index.find_one(model)

/** @param {Figure} figure */
const figureView = (figure) => /** @type {FigureView | null} */ (viewOf(figure))

/** The shadow tree that a model is drawn in. @param {unknown} model */
export const shadowOf = (model) => viewOf(model)?.shadow_el

/** @param {unknown} model */
export const elementOf = (model) => viewOf(model)?.el

/** Where in the shadow tree of a widget its text, button or slider is. */
const PLACES = { text: ".bk-clearfix", button: "button", group: ".bk-btn-group", slider: ".noUi-target" }

/**
 * @param {ShadowRoot | undefined} root
 * @returns {HTMLElement | undefined}
 */
export const textIn = (root) => root?.querySelector(PLACES.text) ?? undefined

/**
 * @param {ShadowRoot | undefined} root
 * @returns {HTMLButtonElement | undefined}
 */
export const buttonIn = (root) => root?.querySelector(PLACES.button) ?? undefined

/**
 * Let the handle of a slider stand at a value, without telling anyone.
 * @param {ShadowRoot | undefined} root
 * @param {number} value
 * @returns {boolean} Whether there is a handle.
 */
export const slide = (root, value) => {
  /** @type {(Element & {noUiSlider?: {set(value: number, tell: boolean): void}}) | null | undefined} */
  const place = root?.querySelector(PLACES.slider)
  place?.noUiSlider?.set(value, false)
  return place?.noUiSlider !== undefined
}

/**
 * What a group of buttons leaves unsaid to a screen reader.
 * @param {ShadowRoot | undefined} root
 * @param {number | number[]} active
 * @param {string} words
 * @param {string[]} titles Tooltips, one a button.
 */
export const labelGroup = (root, active, words, titles = []) => {
  root?.querySelector(PLACES.group)?.setAttribute("role", "group")
  root?.querySelector(PLACES.group)?.setAttribute("aria-label", words)
  const pressed = [active].flat()
  root?.querySelectorAll("button").forEach((button, index) => {
    button.setAttribute("aria-pressed", String(pressed.includes(index)))
    button.title = titles[index] ?? ""
  })
}

/**
 * The same of a slider.
 * @param {ShadowRoot | undefined} root
 * @param {string} words
 */
export const labelSlider = (root, words) => {
  root?.querySelector("[role=slider]")?.setAttribute("aria-label", words)
  if (root) /** @type {HTMLElement} */ (root.host).title = words
}

/**
 * A picture of a figure as it is drawn now, upon a colour.
 * @param {Figure} figure
 * @param {"png" | "svg"} type
 * @param {string} color
 * @returns {Promise<Blob>}
 */
export const pictureOf = (figure, type, color) => {
  const { border_fill_color, background_fill_color } = figure
  figure.setv({ border_fill_color: color, background_fill_color: color }, { silent: true })
  try {
    const view = figureView(figure)
    if (view === null) throw new Error(`${figure.name} is not on the page`)
    return view.export(type).to_blob()
  } finally {
    figure.setv({ border_fill_color, background_fill_color }, { silent: true })
  }
}

// ---- painting ---------------------------------------------------------------------------

/** How Bokeh draws the marks of one renderer, and how they are painted in its place. */
export class Layer {
  /** @param {MarksView} view */
  constructor(view) {
    this.view = view
  }

  /**
   * @param {Figure} figure
   * @param {Model} renderer
   * @returns {Layer | null} If it is on the page.
   */
  static of(figure, renderer) {
    const view = figureView(figure)?.views.find_one(renderer)
    return view ? new Layer(view) : null
  }

  get onPage() {
    return this.view.plot_view.el.isConnected
  }

  /** Diameter of a mark, in pixels. */
  get size() {
    return this.view.glyph.model.size.value
  }

  /** Where the plot is upon the canvas. */
  get box() {
    return this.view.plot_view.frame.bbox
  }

  /** Offset and factor from data to the canvas, which are linear here: of x, then of y. */
  get scales() {
    const { xscale, yscale } = this.view
    const [x, y] = [xscale.compute(0), yscale.compute(0)]
    return [x, xscale.compute(1) - x, y, yscale.compute(1) - y]
  }

  /** Ask for a new painting without telling Bokeh that anything has moved. */
  request() {
    this.view.plot_view.request_paint(this.view)
  }

  /**
   * Paint the marks in another way than Bokeh, which is the second argument's. The marks
   * of legends, and those that are pointed at, stay Bokeh's.
   * @param {(ctx: Context, bokehs: () => void) => void} paint
   */
  paintMarks(paint) {
    const { glyph } = this.view
    const own = glyph._paint.bind(glyph)
    glyph._paint = (ctx, indices, more) => {
      if (more !== undefined || indices.length === 0) own(ctx, indices, more)
      else paint(ctx, () => own(ctx, indices))
    }
  }

  /**
   * The same with what Bokeh does before: it looks up where each mark is.
   * @param {(ctx: Context, bokehs: () => void) => void} paint
   */
  paintAll(paint) {
    const { view } = this
    const own = view._paint.bind(view)
    view._paint = (ctx) => paint(ctx, () => own(ctx))
  }
}

// ---- what Bokeh does at each painting although nothing asks for it ----------------------

/**
 * Of each glyph it keeps four more, for marks that are selected, not selected, muted or
 * too many to draw. What is selected here is told by colours, so they wait for ever.
 */
const IDLE = { set_data: async () => {}, set_visuals: () => {}, after_visuals: () => {}, map_data: () => {} }

/** @param {Figure} figure One that is on the page. */
export const holdStill = (figure) => {
  const view = figureView(figure)
  if (view === null || view.still) return
  view.still = true
  holdSheets(Object.getPrototypeOf(view.style))
  paintEachFrame(view)
  for (const renderer of view.renderer_views.values()) {
    for (const name of ["selection", "nonselection", "muted", "decimated"]) {
      const glyph = renderer[`${name}_glyph`]
      if (glyph) Object.assign(glyph, IDLE)
    }
  }
}

/**
 * It writes the place of every mark and axis into a style sheet and then asks the styles
 * for each colour, so that the browser works them out 24 times where one class is picked.
 * @param {Sheet} sheets Their prototype.
 */
const holdSheets = (sheets) => {
  if (sheets.still) return
  const update = sheets._update
  sheets.still = true
  sheets._update = function (css) {
    if (this.el.textContent !== css) update.call(this, css)
  }
}

/**
 * Having painted, it waits a sixtieth of a second and then for the next frame, so that an
 * animation has every second frame.
 * @param {FigureView} view
 */
const paintEachFrame = (view) => {
  let frame = 0
  let waiting = () => {}
  const end = () => {
    frame = 0
    waiting()
  }
  /** @returns {Promise<void>} */
  const paint = () =>
    new Promise((painted) => {
      if (frame !== 0) return painted()
      waiting = painted
      frame = requestAnimationFrame(() => {
        try {
          if (!view.is_destroyed) view.repaint()
        } finally {
          end()
        }
      })
    })
  const stop = () => {
    cancelAnimationFrame(frame)
    end()
  }
  view.throttled_paint = Object.assign(paint, { stop })
}

// ---- what Bokeh holds on to for good ----------------------------------------------------

/**
 * Let go of it: else each study that was drawn stays in the page's memory. A figure listens
 * to the viewport also when it is gone; a document knows each model that it ever had as a
 * new one, and for half a minute as its own.
 */
export const letGo = () => {
  const missing = lacking()
  if (missing.length > 0) {
    console.warn(inOneSentence(missing))
    return
  }
  const found = prototypes()
  const figures = /** @type {PlotPrototype} */ (found.Plot)
  const documents = /** @type {Document} */ (found.Document)
  if (figures.connect_signals.letsGo) return
  const { connect_signals, remove } = figures
  const { _recompute_all_models, _schedule_recompute_all_models } = documents

  figures.connect_signals = function () {
    this.lettingGo = new AbortController()
    const { signal } = this.lettingGo
    const listen = EventTarget.prototype.addEventListener
    if (window.visualViewport) {
      /** @param {string} name @param {EventListener} heard */
      const briefly = (name, heard) => listen.call(window.visualViewport, name, heard, { signal })
      Object.assign(window.visualViewport, { addEventListener: briefly })
    }
    try {
      connect_signals.call(this)
    } finally {
      if (window.visualViewport) Reflect.deleteProperty(window.visualViewport, "addEventListener")
    }
  }
  figures.connect_signals.letsGo = true

  figures.remove = function () {
    this.lettingGo?.abort()
    remove.call(this)
  }

  documents._schedule_recompute_all_models = function () {
    this._recompute_timeout = Math.min(this._recompute_timeout, 1000)
    _schedule_recompute_all_models.call(this)
  }

  documents._recompute_all_models = function () {
    _recompute_all_models.call(this)
    for (const model of this._new_models) {
      if (model.document !== this) this._new_models.delete(model)
    }
  }
}
