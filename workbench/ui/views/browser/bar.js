// The bar above the pictures: the theme, and what can be taken away.

class Bar {
  constructor(pair) {
    Object.assign(this, {pair, models: pair.models.bar})
    const {state, told} = pair
    this.actions = {
      theme: ({active}) => state.setv({theme: told.themeNames[active]}),
      download: () => this.open(!this.models.menu.visible),
      picture: (_, {index}) => this.picture(index).catch((error) => {
        console.warn(error)
        this.say("This picture could not be made; try the other format, or a smaller window.")
      }),
      file: (_, {index}) => state.setv({wanted: told.files[index]}),
    }
  }

  render(changed) {
    const {state, told} = this.pair
    if (changed.has("theme")) this.models.theme.active = told.themeNames.indexOf(state.theme)
    if (changed.has("wanted") && state.wanted) this.say(`Making: ${state.wanted}…`)
    if (changed.has("parcel") && state.parcel.name) this.unpack(state.parcel)
  }

  dress() {
    const {models} = this
    const {labels, titles} = this.pair.told
    const {pair} = this
    labelGroup(pair.element(models.theme), models.theme, labels.theme, titles.theme)
    for (const model of [models.tour, models.download, ...models.chips]) {
      const [name, index] = model.name.split(" ")
      const button = pair.element(model)?.querySelector("button")
      if (button) button.title = index === undefined ? titles[name] : titles[name][index]
    }
    pair.element(models.download)?.querySelector("button")
      .setAttribute("aria-expanded", String(models.menu.visible))
  }

  open(visible) {
    this.models.menu.visible = visible
    this.dress()
  }

  // A picture of one view as it is drawn now, upon the page's background.
  async picture(index) {
    const {pictures, types, stem, colors} = this.pair.told
    const [name, type] = [pictures[Math.floor(index / types.length)], types[index % types.length]]
    const {figure} = this.pair.models[name]
    const {border_fill_color, background_fill_color} = figure
    const filled = {border_fill_color: colors.background, background_fill_color: colors.background}
    let layer
    figure.setv(filled, {silent: true})
    try {
      layer = Bokeh.index.find_one(figure).export(type)
    } finally {
      figure.setv({border_fill_color, background_fill_color}, {silent: true})
    }
    this.save(`${stem}-${name}.${type}`, await layer.to_blob())
  }

  // What Python has sent: `data` is base64, or there is none where it failed.
  unpack({name, type, data}) {
    if (!data) {
      this.say(`${name} could not be made.`)
      return
    }
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))
    this.save(name, new Blob([bytes], {type}))
    this.say(`${name} is among your downloads.`)
  }

  say(text) {
    this.models.status.setv({text: escape(text), visible: true})
  }

  save(name, blob) {
    const link = document.createElement("a")
    link.href = URL.createObjectURL(blob)
    link.download = name
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 60000)
  }
}
