// What pages can do beyond being read. Without it they show the same, and forms act the same.
"use strict";

const liveAt = document.currentScript.dataset.liveAt;

// What a button copies is the text of the element that it names. Browsers have a clipboard for HTTPS alone; without it the text is
// selected and copied as by hand.
const copy = async (element) => {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(element.textContent);
    return;
  }
  getSelection().selectAllChildren(element);
  if (!document.execCommand("copy")) throw new Error("not copied");
};
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const label = button.textContent;
    try {
      await copy(document.getElementById(button.dataset.copy));
      button.textContent = "Copied";
    } catch {
      button.textContent = "Selected: copy it with the keyboard";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}

// A form that acts is sent once, however often the button is pressed. The server sees to it, too.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if ("sent" in form.dataset) event.preventDefault();
  form.dataset.sent = "";
  setTimeout(() => { delete form.dataset.sent; }, 10000);
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// What a search is refused with is shown as the page that it is.
for (const kind of ["htmx:responseError", "htmx:sendError"]) {
  document.addEventListener(kind, (event) => {
    const form = event.target.closest("form");
    if (form) location.assign(event.detail.pathInfo.finalRequestPath);
  });
}

// Whoever goes through the page with the keyboard stays where they are while a part of it is loaded anew.
let focused = null;
document.addEventListener("htmx:beforeSwap", (event) => {
  const link = document.activeElement?.closest("a[href]");
  focused = link && event.detail.target.contains(link) ? link.href : null;
});
document.addEventListener("htmx:afterSettle", () => {
  if (!focused) return;
  const same = [...document.querySelectorAll("main a[href]")].find((link) => link.href === focused);
  same?.focus({ preventScroll: true });
  focused = null;
});

// "/" leads to the search of the page, as in other tools.
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const search = document.querySelector("form[role=search] input");
  if (search) {
    event.preventDefault();
    search.focus();
  }
});

// A search can be stopped: the server stops looking, too.
document.addEventListener("click", (event) => {
  const stop = event.target.closest("[data-cancel]");
  if (stop) htmx.trigger(stop.closest("form"), "htmx:abort");
});

// The scrubber says where it is while it is moved.
document.addEventListener("input", (event) => {
  const into = event.target.dataset.into;
  if (into) document.getElementById(into).value = event.target.value;
});

// Live figures. Where the server does not answer any more, the page says so, and where the other one is.
const live = document.querySelector("[data-live]");
const lost = document.getElementById("lost");
if (lost && window.EventSource) {
  const names = ["published", "delivered"];
  let samples = [];
  let plot = null;
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const clock = (at, step) => new Date(at * 1000).toISOString().slice(11, step < 60 ? 19 : 16);
  const draw = () => {
    if (!live || typeof uPlot === "undefined") return;
    const data = [samples.map((it) => it.at), ...names.map((name) => samples.map((it) => it[name]))];
    const place = live.querySelector(".plot");
    if (!plot) {
      if (samples.length < 2) return;
      const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") } };
      place.replaceChildren();
      plot = new uPlot({
        width: place.clientWidth, height: 180, legend: { show: false },
        scales: { y: { range: (_, __, max) => [0, Math.max(max, 1)] } },
        axes: [{ ...axis, values: (_, times) => times.map((at) => clock(at, times[1] - times[0])) },
          { ...axis, size: 60 }],
        series: [{}, { label: "published /s", stroke: color("--one"), width: 2 },
          { label: "delivered /s", stroke: color("--two"), width: 2, dash: [8, 4] }],
      }, data, place);
      new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: 180 })).observe(place);
    } else {
      plot.setData(data);
    }
  };
  const number = (value, digits) => value === null ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits });
  const show = () => {
    const last = samples[samples.length - 1];
    if (!last || !live) return;
    for (const place of live.querySelectorAll("[data-now]")) {
      const value = last[place.dataset.now];
      place.textContent = place.dataset.now === "commit_ms" && value !== null ? number(value, 1) + " ms" : number(value, 1);
    }
    draw();
  };
  let answered = Date.now();
  const alive = () => { answered = Date.now(); lost.hidden = true; };
  const isSelecting = () => {
    const selection = getSelection();
    return !selection.isCollapsed && document.getElementById("now")?.contains(selection.anchorNode);
  };
  const listen = () => {
    const source = new EventSource(liveAt);
    source.addEventListener("open", alive);
    source.addEventListener("all", (event) => { alive(); samples = JSON.parse(event.data); show(); });
    source.addEventListener("sample", (event) => {
      alive();
      samples = [...samples.slice(-179), JSON.parse(event.data)];
      show();
      if (document.visibilityState === "visible" && !isSelecting()) document.body.dispatchEvent(new CustomEvent("stanby:sample"));
    });
    source.addEventListener("error", async () => {
      if (source.readyState === EventSource.OPEN) return;
      try {
        const answer = await fetch(liveAt, { method: "HEAD", redirect: "manual" });
        // Somebody who is not logged in any more is led to the form.
        if (answer.type === "opaqueredirect") location.reload();
        // A proxy says that there is no server; the server itself would say it with its policy.
        else if (answer.status >= 500 && !answer.headers.has("content-security-policy")) lost.hidden = false;
      } catch {
        lost.hidden = false;
      }
      // The browser tries again by itself after a connection that breaks, and not after an answer that is none.
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 15000);
    });
  };
  listen();
  // A server that hangs keeps its connections. It says something every five seconds.
  let isLive = false;
  setInterval(() => {
    isLive ||= samples.length > 0;
    if (isLive && document.visibilityState === "visible" && Date.now() - answered > 20000) lost.hidden = false;
  }, 5000);
}
