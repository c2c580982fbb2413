// What BokehJS holds on to for good, let go of: else each study that was drawn stays in
// the page's memory. A figure listens to the viewport also when it is gone; a document
// knows each model that it ever had as a new one, and for half a minute as its own.
(() => {
  const View = Bokeh.Models.get("Plot").prototype.default_view.prototype
  const Document = Bokeh.require("document").Document.prototype
  if (View.connect_signals.letsGo) return
  const {connect_signals, remove} = View
  const {_recompute_all_models, _schedule_recompute_all_models} = Document

  View.connect_signals = function () {
    const {signal} = (this.lettingGo = new AbortController())
    const listen = EventTarget.prototype.addEventListener
    if (window.visualViewport) {
      visualViewport.addEventListener = (name, heard) => listen.call(visualViewport, name, heard, {signal})
    }
    try {
      connect_signals.call(this)
    } finally {
      if (window.visualViewport) delete visualViewport.addEventListener
    }
  }
  View.connect_signals.letsGo = true

  View.remove = function () {
    this.lettingGo?.abort()
    remove.call(this)
  }

  Document._schedule_recompute_all_models = function () {
    this._recompute_timeout = Math.min(this._recompute_timeout, 1000)
    _schedule_recompute_all_models.call(this)
  }

  Document._recompute_all_models = function () {
    _recompute_all_models.call(this)
    for (const model of this._new_models) {
      if (model.document !== this) this._new_models.delete(model)
    }
  }
})()
