// The red box appears above everything, and moves what is below it: the field that is
// typed in stays in sight.
;(() => {
  if (window.workbenchSight) return
  window.workbenchSight = true
  new MutationObserver((changes) => {
    const appeared = changes.some(({ addedNodes }) =>
      [...addedNodes].some(
        (node) =>
          node instanceof Element && (node.matches("[role=alert]") || node.querySelector("[role=alert]")),
      ),
    )
    const field = document.activeElement
    if (appeared && field?.closest(".workbench")) field.scrollIntoView({ block: "nearest" })
  }).observe(document.body, { childList: true, subtree: true })
})()
