// Copy what stands beside the button; a link is completed by this page's address.
(() => {
  if (window.workbenchCopies) return
  window.workbenchCopies = true
  // The address of this page that others can open; the server says where that differs.
  const complete = ({ value, dataset: { own, any, binder } }) => {
    const rest = own && location.pathname.startsWith(own) ? location.pathname.slice(own.length) : null
    if (rest !== null && binder) return `${binder}?urlpath=${encodeURIComponent(rest + value)}`
    return location.origin + (rest !== null && any ? any + rest : location.pathname) + value
  }
  const copy = async (button) => {
    const field = button.parentElement.querySelector("input")
    const source = field ?? button.parentElement.querySelector("pre")
    if (field && field.value.startsWith("?")) {
      field.value = complete(field)
    }
    const answer = button.nextElementSibling
    try {
      await navigator.clipboard.writeText(field ? field.value : source.textContent)
      answer.textContent = "Copied."
    } catch { // without https there is no clipboard
      field ? field.select() : getSelection().selectAllChildren(source)
      answer.textContent = "It is selected: copy it with Ctrl-C."
    }
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".wb-copy")
    if (button) copy(button)
  })
})()
