"use strict";
// The loading screen, and what the page says when its kernel or its server is gone.
(() => {
  const loading = document.getElementById("page-loading");
  const notice = document.getElementById("page-notice");
  const began = Date.now();
  let finished = false;
  let ended = false;

  const say = (sentence) => {
    notice.querySelector("span").textContent = sentence;
    notice.hidden = sentence === "";
  };
  const end = () => {
    ended = true;
    loading.remove();
    say("This session has ended; reload the page to start a new one.");
  };

  // Called by Voila's page: before each cell, every few seconds, after the last cell.
  window.voila_process = () => {
    document.getElementById("page-stage").textContent = "Drawing the page…";
  };
  window.voila_heartbeat = () => {};
  const show = window.voila_finish;
  window.voila_finish = () => {
    finished = true;
    show();
  };

  const clock = setInterval(() => {
    if (!loading.isConnected) {
      clearInterval(clock);
      return;
    }
    const output = "#rendered_cells .jupyter-widgets, #rendered_cells .jp-RenderedText";
    const seconds = Math.round((Date.now() - began) / 1000);
    if (document.querySelector(output)) loading.remove();
    else if (seconds >= 5) {
      document.getElementById("page-hint").textContent =
        `${seconds} s so far; the first start after an installation takes longest.`;
    }
  }, 100);
  window.addEventListener("load", () => {
    if (!finished) end();
  });

  // A defect in the browser is said once. What is no error, such as a note that a size
  // was observed too late, comes without one.
  const failed = () => {
    if (ended || !notice.hidden) return;
    say("Something went wrong on this page; if it does not answer any more, reload it. What was trained is kept.");
  };
  window.addEventListener("error", ({ error }) => error && failed());
  window.addEventListener("unhandledrejection", failed);

  // A larger file would end the connection, before the kernel could refuse it. The
  // widget's file input is not in the document: it is met where it is pressed.
  const MOST = 64 * 2 ** 20;
  const refuse = (event) => {
    const file = event.target.files?.[0];
    if (!file || file.size <= MOST) return;
    event.stopImmediatePropagation();
    event.target.value = "";
    const size = Math.round(file.size / 2 ** 20);
    say(`${file.name} has ${size} MB and at most 64 MB can be uploaded; give its path instead.`);
    setTimeout(() => ended || say(""), 15000);
  };
  const press = HTMLInputElement.prototype.click;
  HTMLInputElement.prototype.click = function () {
    if (this.type === "file") this.addEventListener("change", refuse, true);
    return press.call(this);
  };

  // Whether the kernel is there: true, false, or null where the server does not answer.
  const alive = async (kernel) => {
    const base = JSON.parse(document.getElementById("jupyter-config-data").textContent).baseUrl;
    try {
      const answer = await fetch(`${base}api/kernels/${kernel}?no_track_activity=1`, { cache: "no-store" });
      return answer.status === 404 ? false : answer.ok ? true : null;
    } catch {
      return null;
    }
  };
  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

  const watch = async () => {
    while (!window.jupyterapp) await pause(200);
    // A page that closes ends its kernel, if it has the cookie that the server wants to
    // see with such a request. Below a Jupyter server only some pages bring it.
    if (location.pathname.includes("/voila/render/") && !document.cookie.includes("_xsrf=")) {
      fetch(`${document.body.dataset.baseUrl}tree`);
    }
    const { kernel } = await window.jupyterapp.widgetManagerPromise.promise;
    // A kernel that was restarted has forgotten everything that this page shows.
    kernel.statusChanged.connect((_, status) => {
      if (["restarting", "autorestarting", "dead"].includes(status)) end();
    });
    // One that the server has ended, after hours without a sign of life, says nothing.
    const look = async () => {
      if (!ended && (await alive(kernel.id)) === false) end();
    };
    setInterval(look, 30000);
    document.addEventListener("visibilitychange", look);
    let asking = false;
    kernel.connectionStatusChanged.connect(async () => {
      if (asking) return;
      asking = true;
      // JupyterLab waits longer and longer between its attempts, at last half a minute:
      // a server that answers again is not kept waiting.
      let lost = false;
      for (await pause(500); !ended && kernel.connectionStatus !== "connected"; await pause(2000)) {
        const answer = await alive(kernel.id);
        if (answer === false) end();
        else if (answer === null) say("The connection to the server is lost; trying again…");
        else if (lost || kernel.connectionStatus === "disconnected") kernel.reconnect().catch(() => {});
        lost = answer === null;
      }
      if (!ended) say("");
      asking = false;
    });
  };
  watch();

  // A kernel that is gone before the page could connect leaves the loading screen alone.
  setTimeout(async () => {
    const config = document.getElementById("jupyter-config-data");
    if (loading.isConnected && finished && config) {
      if ((await alive(JSON.parse(config.textContent).kernelId)) === false) end();
    }
  }, 15000);
})();
