// A file that is too large would end the connection, before the kernel could refuse it.
// The widget's file input is not in the document: it is met where it is pressed. How much
// the server takes is a class of the widget's button, such as wb-most-64.
;(() => {
  if (window.workbenchUploads) return
  window.workbenchUploads = true
  /** @param {string} sentence */
  const say = (sentence) => {
    if (window.workbenchSay) window.workbenchSay(sentence)
    else for (const line of document.querySelectorAll(".wb-upload-said")) line.textContent = sentence
  }
  /** @param {Event} event */
  const refuse = (event) => {
    const button = document.querySelector("[class*=wb-most-]")
    const most = Number(button?.className.match(/wb-most-(\d+)/)?.[1] ?? 64)
    const input = /** @type {HTMLInputElement} */ (event.target)
    const file = input.files?.[0]
    if (!file || file.size <= most * 2 ** 20) return
    event.stopImmediatePropagation()
    input.value = ""
    const size = Math.ceil(file.size / 2 ** 20)
    say(`${file.name} is ${size} MB and the limit is ${most} MB; give its path instead.`)
    setTimeout(() => say(""), 15000)
  }
  const press = HTMLInputElement.prototype.click
  HTMLInputElement.prototype.click = function () {
    if (this.type === "file") this.addEventListener("change", refuse, true)
    return press.call(this)
  }
})()
