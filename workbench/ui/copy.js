// Copy what stands beside the button; a link is completed by this page's address.
(() => {
  if (window.workbenchCopies) return
  window.workbenchCopies = true
  const copy = async (button) => {
    const field = button.parentElement.querySelector("input")
    const source = field ?? button.parentElement.querySelector("pre")
    if (field && field.value.startsWith("?")) {
      field.value = location.origin + location.pathname + field.value
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
