// The loading screen, and what the page says when something between it and its kernel is
// wrong: each trouble has its own sentence, said within ten seconds.
;(() => {
  /** @param {string} id */
  const part = (id) => /** @type {HTMLElement} */ (document.getElementById(id))
  const loading = part("page-loading")
  const notice = part("page-notice")
  const began = Date.now()
  let finished = false
  let ended = false
  // Where scripts are forbidden, this stays and is seen after a while.
  part("page-forbidden").remove()
  part("page-stage").textContent = "Starting the workbench kernel…"

  /** @param {string} sentence "": none. */
  const say = (sentence) => {
    const place = notice.querySelector("span")
    if (place) place.textContent = sentence
    notice.hidden = sentence === ""
  }
  window.workbenchSay = say
  // What no waiting mends.
  const end = (sentence = SENTENCES.ended) => {
    ended = true
    loading.remove()
    say(sentence)
  }
  const SENTENCES = {
    ended: "This session has ended; reload the page to start a new one.",
    denied: "This page is not logged in any more; reload it to log in again.",
    stopped: "The server of this page has been stopped; reload the page to start it again.",
    lost: "The connection to the server is lost; trying again…",
    elsewhere:
      "Something in between answers in the place of this page's server; open the page again by its link.",
    sockets:
      "The server answers, but websockets to it are refused: a proxy or filter in between does not let them through. Ask whoever runs it to allow them, or try another network.",
  }

  // Called by Voila's page: before each cell, every few seconds, after the last cell.
  window.voila_process = () => {
    part("page-stage").textContent = "Drawing the page…"
  }
  window.voila_heartbeat = () => {}
  const show = window.voila_finish
  window.voila_finish = () => {
    finished = true
    show()
  }

  const clock = setInterval(() => {
    if (!loading.isConnected) {
      clearInterval(clock)
      return
    }
    const output = "#rendered_cells .jupyter-widgets, #rendered_cells .jp-RenderedText"
    const seconds = Math.round((Date.now() - began) / 1000)
    if (document.querySelector(output)) loading.remove()
    else if (seconds >= 5) {
      part("page-hint").textContent =
        `${seconds} s so far; the first start after an installation takes longest.`
    }
  }, 100)

  // The token has done its work: the browser has a cookie now, and a copied address
  // does not give it away.
  const address = new URL(location.href)
  if (navigator.cookieEnabled && address.searchParams.has("token")) {
    address.searchParams.delete("token")
    history.replaceState(history.state, "", address)
  }

  // A defect in the browser is said once. What is no error, such as a note that a size
  // was observed too late, comes without one.
  const failed = () => {
    if (ended || !notice.hidden) return
    say(
      "Something went wrong on this page; if it does not answer any more, reload it. What was trained is kept.",
    )
  }
  window.addEventListener("error", ({ error }) => error && failed())
  window.addEventListener("unhandledrejection", failed)

  // Scripts that could not be loaded, and what a policy has forbidden.
  let missing = ""
  let forbidden = ""
  window.addEventListener(
    "error",
    ({ target }) => {
      if (target instanceof HTMLScriptElement) missing ||= target.src
    },
    true,
  )
  document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => {
    if (/^(script|connect|default|worker)/.test(effectiveDirective)) forbidden ||= effectiveDirective
  })

  // The attempts to open the kernel's socket.
  const sockets = { tried: 0, opened: 0, failed: 0 }
  const Socket = window.WebSocket
  window.WebSocket = class extends Socket {
    /**
     * @param {string | URL} address
     * @param {string | string[]} [protocols]
     */
    constructor(address, protocols) {
      super(address, protocols)
      if (!String(address).includes("/channels")) return
      sockets.tried ||= Date.now()
      let open = false
      this.addEventListener("open", () => {
        open = true
        sockets.opened += 1
      })
      this.addEventListener("close", () => {
        if (!open) sockets.failed += 1
      })
    }
  }

  const config = () => JSON.parse(document.getElementById("jupyter-config-data")?.textContent ?? "null")
  /**
   * @param {string} path
   * @param {RequestRedirect} [redirect]
   */
  const fetched = (path, redirect = "manual") => {
    const token = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1]
    const headers = new Headers(token ? [["X-XSRFToken", token]] : [])
    return fetch(config().baseUrl + path, { cache: "no-store", headers, redirect })
  }
  /** @param {Response} answer */
  const stopped = ({ status }) => status === 424 || status === 503 // a hub's
  /**
   * How the kernel is.
   * @param {string} kernel
   * @returns {Promise<"there" | keyof typeof SENTENCES>}
   */
  const look = async (kernel) => {
    const path = `api/kernels/${kernel}?no_track_activity=1`
    let answer
    try {
      answer = await fetched(path)
    } catch {
      return "lost"
    }
    if (answer.type === "opaqueredirect") {
      // To a page to log in at, or, of a server that a hub has stopped, to the hub.
      const followed = await fetched(path, "follow").catch(() => null)
      return followed && stopped(followed) ? "stopped" : "denied"
    }
    const json = /json/.test(answer.headers.get("Content-Type") ?? "")
    if (answer.ok) return json ? "there" : "elsewhere"
    if (answer.status === 404) return json ? "ended" : "elsewhere"
    if (stopped(answer)) return "stopped"
    if (answer.status === 401 || answer.status === 403) return "denied"
    return "lost"
  }
  // Why the socket is not opened, although the server answers.
  const refusal = async () => {
    try {
      const { host } = await (await fetched("workbench/seen")).json()
      if (host && host !== location.host) {
        return `This page is at ${location.host}, but its server is known as ${host}, so it refuses the page's websocket: a proxy in between changes the Host header. Let the proxy pass it on, or start the workbench with --allow-host ${location.hostname}.`
      }
    } catch {} // below a Jupyter server nothing answers there
    return SENTENCES.sockets
  }
  /** @param {number} milliseconds */
  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

  /**
   * What is wrong with a page that does not come up; "" where nothing is, or not yet.
   * @param {number} seconds Since it was loaded.
   */
  const trouble = async (seconds) => {
    const { baseUrl, kernelId } = config()
    // Voila's own page has one path; below a Jupyter server it is that of the notebook.
    const alone = !location.pathname.includes("/voila/render/")
    const path = location.pathname.replace(/\/?$/, "/")
    if (alone ? path !== baseUrl : !path.startsWith(baseUrl)) {
      return `This page is at ${path}, but its server was started for ${baseUrl}, so nothing more of it is found. Start the workbench with --base-url ${path}`
    }
    if (missing && !window.jupyterapp) {
      return forbidden
        ? `A policy (${forbidden}) forbids scripts that this page needs; ask whoever runs the server or proxy in between to allow those of its own address.`
        : `A part of this page could not be loaded: ${missing}. Reload it; if that does not help, a proxy or filter in between does not pass it on.`
    }
    if (sockets.opened) return ""
    const waits = sockets.tried && Date.now() - sockets.tried > 5000
    if (!sockets.failed && !waits && seconds < 8) return ""
    const state = await look(kernelId)
    if (forbidden && ["there", "lost"].includes(state)) {
      return `A policy (${forbidden}) forbids what this page needs; ask whoever runs the server or proxy in between to allow scripts and connections of its own address.`
    }
    if (state !== "there") return SENTENCES[state]
    return sockets.failed || waits ? refusal() : ""
  }
  window.addEventListener("load", async () => {
    if (!finished || !config()) {
      end()
      return
    }
    let sentence = ""
    for (let seconds = 0; !ended && (loading.isConnected || !sockets.opened); seconds += 1) {
      sentence = await trouble(seconds)
      if (sentence === SENTENCES.ended) end()
      else if (sentence) {
        loading.remove()
        say(sentence)
      }
      await pause(1000)
    }
    if (!ended && sentence) say("")
  })

  const watch = async () => {
    while (!window.jupyterapp) await pause(200)
    // A page that closes ends its kernel, if it has the cookie that the server wants to
    // see with such a request. Below a Jupyter server only some pages bring it.
    if (location.pathname.includes("/voila/render/") && !document.cookie.includes("_xsrf=")) {
      fetch(`${document.body.dataset.baseUrl}tree`)
    }
    const { kernel } = await window.jupyterapp.widgetManagerPromise.promise
    // A kernel that was restarted has forgotten everything that this page shows.
    kernel.statusChanged.connect((_, status) => {
      if (["restarting", "autorestarting", "dead"].includes(status)) end()
    })
    // One that the server has ended, after hours without a sign of life, says nothing.
    let told = "" // what was said by asking, and is taken back when all is well again
    const ask = async () => {
      if (ended || document.hidden) return
      const state = await look(kernel.id)
      if (state === "ended") end()
      else if (!ended && state !== "lost" && (state !== "there" || told)) {
        told = state === "there" ? "" : SENTENCES[state]
        say(told)
      }
    }
    setInterval(ask, 8000)
    document.addEventListener("visibilitychange", ask)
    let asking = false
    kernel.connectionStatusChanged.connect(async () => {
      if (asking) return
      asking = true
      // JupyterLab waits longer and longer between its attempts, at last half a minute:
      // a server that answers again is not kept waiting.
      let lost = false
      let there = 0 // how often the server has answered, and there was no connection
      for (await pause(500); !ended && kernel.connectionStatus !== "connected"; await pause(2000)) {
        const state = await look(kernel.id)
        there = state === "there" ? there + 1 : 0
        if (state === "ended") end()
        else if (state !== "there") say(SENTENCES[state])
        else {
          if (there > 3) say(await refusal())
          if (lost || kernel.connectionStatus === "disconnected") kernel.reconnect().catch(() => {})
        }
        lost = state !== "there"
      }
      if (!ended && sockets.opened) say("")
      asking = false
    })
  }
  watch()
})()
