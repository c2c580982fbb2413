// Copy what stands beside the button; a link is completed by this page's address.
;(() => {
  if (window.workbenchCopies) return
  window.workbenchCopies = true
  /**
   * The address of this page that others can open; the server says where that differs.
   * @param {HTMLInputElement} field
   */
  const complete = ({ value, dataset: { own, any, binder } }) => {
    const rest = own && location.pathname.startsWith(own) ? location.pathname.slice(own.length) : null
    if (rest !== null && binder) return `${binder}?urlpath=${encodeURIComponent(rest + value)}`
    return location.origin + (rest !== null && any ? any + rest : location.pathname) + value
  }
  /** @param {Element} button */
  const copy = async (button) => {
    const field = button.parentElement?.querySelector("input")
    const source = field ?? button.parentElement?.querySelector("pre")
    if (!source) return
    if (field?.value.startsWith("?")) field.value = complete(field)
    let said = "Copied."
    try {
      await navigator.clipboard.writeText(field ? field.value : (source.textContent ?? ""))
    } catch {
      // Without https there is no clipboard.
      if (field) field.select()
      else getSelection()?.selectAllChildren(source)
      said = "It is selected: copy it with Ctrl-C."
    }
    if (button.nextElementSibling) button.nextElementSibling.textContent = said
  }
  document.addEventListener("click", ({ target }) => {
    const button = target instanceof Element ? target.closest(".wb-copy") : null
    if (button) copy(button)
  })
})()
