// What Bokeh does at each painting although nothing asks for it, and what is left of it.

// Of each glyph it keeps four more, for marks that are selected, not selected, muted or
// too many to draw. What is selected here is told by colours, so they wait for ever.
const IDLE = {set_data: async () => {}, set_visuals: () => {}, after_visuals: () => {}, map_data: () => {}}

const holdStill = (figure) => {
  if (figure.still) return
  figure.still = true
  holdSheets(Object.getPrototypeOf(figure.style))
  paintEachFrame(figure)
  for (const view of figure.renderer_views.values()) {
    for (const name of ["selection", "nonselection", "muted", "decimated"]) {
      if (view[`${name}_glyph`]) Object.assign(view[`${name}_glyph`], IDLE)
    }
  }
}

// It writes the place of every mark and axis into a style sheet and then asks the styles
// for each colour, so that the browser works them out 24 times where one class is picked.
const holdSheets = (sheet) => {
  if (sheet.still) return
  const update = sheet._update
  sheet.still = true
  sheet._update = function (css) {
    if (this.el.textContent !== css) update.call(this, css)
  }
}

// Having painted, it waits a sixtieth of a second and then for the next frame, so that an
// animation has every second frame.
const paintEachFrame = (figure) => {
  let [frame, waiting] = [0, () => {}]
  const end = () => {
    frame = 0
    waiting()
  }
  const paint = () => new Promise((painted) => {
    if (frame !== 0) return painted()
    waiting = painted
    frame = requestAnimationFrame(() => {
      try {
        if (!figure.is_destroyed) figure.repaint()
      } finally {
        end()
      }
    })
  })
  const stop = () => {
    cancelAnimationFrame(frame)
    end()
  }
  figure.throttled_paint = Object.assign(paint, {stop})
}
