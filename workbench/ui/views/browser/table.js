// The overlap table: which row or column is selected.

class Table {
  constructor(pair) {
    Object.assign(this, {pair, ...pair.models.overlap})
    this.actions = {overlap: (_, {event}) => this.pick(event)}
  }

  render(changed) {
    if (changed.has("selected_class") || changed.has("selected_outlier")) this.draw()
    if (changed.has("num_outliers")) this.drawEdge()
  }

  repaint() {
    this.draw()
  }

  // A cell or its head stands for the class; the row's number and its sum for the outlier.
  pick({x, y}) {
    const {overlap, classNames} = this.pair.told
    const [c, j] = [Math.round(x), Math.round(y)]
    const inside = x > -0.5 && c < classNames.length
    if (inside && j < overlap.length) this.pair.select({selected_class: c})
    else if (!inside && j >= 0 && j < overlap.length) this.pair.select({selected_outlier: j})
  }

  // Below the edge stand eigenvectors that are not counted as outliers.
  drawEdge() {
    const {numOutliers, told} = this.pair
    this.edge.location = numOutliers - 0.5
    this.edge.visible = numOutliers > 0 && numOutliers < told.overlap.length
  }

  // Where no cell says its number, small shares are told apart too; `shade` in overlap.py.
  shade(value, total) {
    return this.most === 1 ? value : Math.sqrt(clamp(value / (total ? 1 : this.most)))
  }

  draw() {
    const {selected} = this.pair
    const {selected_class: c, selected_outlier: j} = this.pair.state
    const {ink, line, background, "on-accent": onAccent} = this.pair.told.colors
    const plain = this.cells.data.text[0] === "" ? background : line // as Python drew it
    const {data} = this.cells
    for (let cell = 0; cell < data.value.length; cell++) {
      const total = data.c[cell] < 0
      const inside = selected && (c >= 0 ? data.c[cell] === c : data.j[cell] === j)
      data.line_color[cell] = inside ? ink : plain
      data.alpha[cell] = (total ? 0.55 : 0.9) * this.shade(data.value[cell], total) * (!selected || inside ? 1 : 0.3)
      data.text_color[cell] = data.alpha[cell] > 0.5 && !total ? onAccent : ink
    }
    this.cells.change.emit()
  }
}
