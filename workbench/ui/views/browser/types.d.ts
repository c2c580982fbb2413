// What the browser's half is given: by Python (linked.py), and of BokehJS. Only what is
// used stands here; that Python gives these very names is held by test_script.py.

import type { LinkedPair } from "./pair.js"

// ---- BokehJS ---------------------------------------------------------------------------

export interface Column<T> extends Iterable<T> {
  readonly length: number
  [row: number]: T
}
export type Numbers = Column<number>
export type Texts = Column<string>

export interface Model {
  readonly id: string
  readonly type: string
  name: string | null
  visible: boolean
  styles: Record<string, string>
  document: unknown
  setv(values: object, options?: { silent?: boolean }): void
  references(): Set<Model>
  [Symbol.iterator](): Iterator<{ attr: string }>
}
export interface ModelEvent {
  event_name: string
  origin: Model
  x: number
  y: number
}
export interface Source<Data> extends Model {
  data: Data
  change: { emit(): void }
}
export interface Button extends Model {
  label: string
  disabled: boolean
}
export interface Choice extends Model {
  labels: string[]
  active: number
}
export interface Choices extends Model {
  labels: string[]
  active: number[]
}
export interface Slider extends Model {
  value: number
}
export interface Text extends Model {
  text: string
}
export interface Span extends Model {
  location: number
}
export interface Renderer extends Model {
  glyph: { size: { value: number } }
}
export interface Range extends Model {
  start: number
  end: number
}
export interface Axis extends Model {
  axis_label: string
  ticker: unknown
  formatter: unknown
}
export interface Figure extends Model {
  x_range: Range
  y_range: Range
  readonly inner_width: number
  readonly inner_height: number
  below: Axis[]
  left: Axis[]
  border_fill_color: unknown
  background_fill_color: unknown
}

// ---- the state (state.py) --------------------------------------------------------------

export interface StateValues {
  selected_class: number
  selected_outlier: number
  level: number
  playing: boolean
  speed: number
  operator: string
  scale: string
  parts: string
  num_outliers: number
  knockout: string
  moment: number
  rolling: boolean
  compare: string
  theme: string
  wanted: string
  download: { name?: string; type?: string; data?: string }
}
export type StateName = keyof StateValues
export interface State extends Model, StateValues {
  setv(values: Partial<StateValues>): void
}

// ---- what is drawn: the fields of the views --------------------------------------------

export interface Marks {
  x: Numbers
  y: Numbers
  home_x: Numbers
  home_y: Numbers
  target_x: Numbers
  target_y: Numbers
  c: Numbers
  stays: Numbers
  color: Texts
  marker: Texts
  fill_alpha: Numbers
  line_alpha: Numbers
}
export interface EmbeddingView {
  figure: Figure
  sources: Source<Marks>[]
  renderers: Renderer[]
  parents: Numbers[]
  averaged: Text
}
export interface Eigenvalues {
  value: Numbers
  residual: Numbers
  name: Texts
  subtracted?: Numbers
  projected?: Numbers
}
export interface Curve {
  x: Numbers
  y: Numbers
  low: Numbers
  high: Numbers
  rest?: Numbers
}
export type Span2 = [left: number, right: number]
export type PackedCurve = Omit<Curve, "x"> & { spans: Span2[] }
export interface Frame {
  x: [number, number]
  y: [number, number]
  x_label: string
  y_label: string
  width: number
  bump: number
  lowest: number
}
export interface Sticks {
  x: number[]
  low: number[]
  high: number[]
  base: number[]
  top: number[]
  color: string[]
  alpha: number[]
  width: number[]
  size: number[]
  label: string[]
  name: string[]
  told: string[]
}
export interface PartSticks {
  x: Numbers
  base: Numbers
  top: Numbers
  value: Numbers
  told: Texts
  nth: Numbers
}
export interface Carried {
  x: Numbers
  from: Numbers
  y: Numbers
  told: Texts
}
export interface SpectrumView {
  figure: Figure
  curve: Source<object>
  beside: Record<string, Source<object>>
  sticks: Source<Sticks>
  ghosts: Source<object>
  carried: Source<Carried>
  parts: Record<string, Source<PartSticks>>
  cut: Span
  curves: Record<string, Source<Curve>>
  eigenvalues: Record<string, Source<Eigenvalues>>
  axes: Record<string, { ticker: unknown; format: unknown }>
  frames: Record<string, Frame>
  floor: number
}
export interface Cells {
  x: Numbers
  width: Numbers
  c: Numbers
  j: Numbers
  value: Numbers
  alpha: Numbers
  line_color: Texts
  text: Texts
  text_color: Texts
}
export interface Bands {
  left: Numbers
  right: Numbers
  top: Numbers
  bottom: Numbers
  told: Texts
}
export interface OverlapView {
  figure: Figure
  cells: Source<Cells>
  edge: Span
  bands: Source<Bands>
  left: number
  width: number
  num_rows: number
  most: number
}
export interface Walks {
  distance: Numbers
  loss: Numbers[] // a row an eigenvector
  classes: Numbers[][] // of each eigenvector, that of each class
  leading: number[] // rows by rank
  bulk: number // its row, or -1
  bulkRank: number
  lowest: number // likewise of H
}
export interface WalkLines {
  xs: Numbers[]
  ys: Numbers[]
  line_color: string[]
  line_alpha: number[]
  line_width: number[]
  line_dash: string[]
  name: string[]
}
export interface WalkView {
  figure: Figure
  panel: Model
  sentence: Text
  lines: Source<WalkLines>
  walks: Walks
  pinned: Walks | null
}
export interface StripCells {
  x: Numbers
  y: Numbers
  j: Numbers
  value: Numbers
  alpha: number[]
  line_color: string[]
  told: Texts
}
export interface StripView {
  figure: Figure
  panel: Model
  sentence: Text
  cells: Source<StripCells>
  names: string[]
  shares: number[][]
  errors: number[]
  caption: string
}
export interface StepperView {
  stations: Button[]
  left: Text
  position: Slider
  back: Button
  play: Button
  step: Button
  speed: Choice
  maths: Button
  now: Text
  sentences: string[]
  todo: string
  doing: string[]
  counts: number[]
  kept: number[]
}
export interface Controls {
  classes: Choices
  outliers: Choices
  clear: Button
  operator: Choice
  scale: Choice
  parts: Choices
  count: Slider
  automatic: Button
  knockout: Choice
  message: Text
  note: Text
  rule: Text
}
export interface Moment {
  homes: { x: Numbers; y: Numbers }[]
  eigenvalues: Record<string, Eigenvalues>
  parts: Record<string, Numbers>
  curves: Record<string, Curve>
  frames: Record<string, Frame>
}
export type PackedMoment = Omit<Moment, "curves"> & { curves: Record<string, PackedCurve> }
export interface MomentWords {
  when: string
  automatic: number
  rule: string
  notes: Record<string, string>
  overlap: number[][]
  span: number[]
  bands: Bands
  sentences: string[]
  kept: number[]
  titles: Pick<Titles, "parts" | "automatic">
  chips: string[]
}
export interface FilmView {
  roll: Button
  rail: Slider
  stops: Choice
  when: Text
  moments: PackedMoment[]
  texts: MomentWords[]
}
export interface CompareView {
  mode: Choice
  note: Text
  marks: Source<{ c: Numbers; alpha: Numbers }>[]
  sticks: Source<object>
  curve: Source<object>
  part: Source<PartSticks>
  ghosts: Model[]
  row: Model
  plot: Figure
  curves: Record<string, PackedCurve>
  eigenvalues: Record<string, Eigenvalues>
  overlap: number[][]
  frames: Record<string, Frame>
}
export interface BarView {
  theme: Choice
  tour: Button
  more: Button
  menu: Model
  chips: Button[]
  status: Text
}
export interface Models {
  embedding: EmbeddingView
  spectrum: SpectrumView
  overlap: OverlapView
  stepper: StepperView
  controls: Controls
  film: FilmView
  compare?: CompareView
  strip?: StripView
  walk?: WalkView
  bar: BarView
  look: { layout: Model }
}

// ---- plain values beside the models (`_plain_values` in linked.py) -----------------------------

export interface Theme {
  colors: Record<string, string>
  variables: Record<string, string>
  type: number
  marks: number
  tip: string
}
// Tooltips: one of a button, several of a group.
export interface Titles {
  classes: string[]
  outliers: string[]
  operator: string[]
  scale: string[]
  parts: string[]
  automatic: string
  knockout: string[]
  speed: string[]
  station: string[]
  back: string
  play: string
  step: string
  maths: string
  compare: string[]
  roll: string
  clear: string
  theme: string[]
  tour: string
  more: string
  picture: string[]
  file: string[]
}
export interface Told {
  initial: StateValues
  before: { id?: string; taken?: Partial<StateValues>; operators?: string[] }
  wired: string[]
  classNames: string[]
  themes: Record<string, Theme>
  themeNames: string[]
  built: string
  pictures: ("embedding" | "spectrum" | "overlap")[]
  types: ("png" | "svg")[]
  stem: string
  overlap: number[][]
  span: number[]
  hint: string
  notes: Record<string, string>
  automatic: number
  rule: string
  partName: string
  parts: string[]
  partTops: Record<string, number>
  tour: [where: string, title: string, text: string][]
  labels: Record<string, string>
  titles: Titles
  files: string[]
  speeds: number[]
  scales: string[]
  knockouts: string[]
  markers: Record<string, string>
  stickTop: number
  carriedTop: number
  ghostTop: number
  compareModes: string[]
}

// ---- what the browser's half is made of ------------------------------------------------

// Done when a control of that name is used: at which place of a picture, and which of
// several ("station 2" asks `station`, index 2).
export type Action = (point: { x: number; y: number } | null, index: number) => void

export interface Part {
  actions: Record<string, Action>
  appear?(): void // on the page for the first time, or in another width
  render?(changed: Set<StateName>): void // what hangs on these properties of the state
  repaint?(): void // in another theme
  dress?(): void // say what Bokeh's widgets leave unsaid
  leave?(): void // let go of the page
}

declare global {
  var workbenchPairs: WeakMap<State, LinkedPair> | undefined
  var workbenchAsked: string | undefined // the theme that the page's link asks for
  var workbenchSay: ((sentence: string) => void) | undefined // Voila's page
  var workbenchUploads: boolean | undefined
  var workbenchCopies: boolean | undefined
  var workbenchSight: boolean | undefined

  // What Voila calls, and what JupyterLab's widgets leave on its page (page.js).
  var voila_process: () => void
  var voila_heartbeat: () => void
  var voila_finish: () => void
  var jupyterapp: { widgetManagerPromise: { promise: Promise<{ kernel: Kernel }> } } | undefined
}

export interface Kernel {
  readonly id: string
  readonly connectionStatus: string
  statusChanged: { connect(heard: (sender: unknown, status: string) => void): void }
  connectionStatusChanged: { connect(heard: () => void): void }
  reconnect(): Promise<void>
}
