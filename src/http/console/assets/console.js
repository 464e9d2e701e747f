// What pages can do beyond being read. Without it they show the same, and forms act the same.
"use strict";

// What a button copies is the text of the element that it names.
for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy).textContent;
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "It cannot be copied here";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}

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
        axes: [axis, { ...axis, size: 60 }],
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
  const source = new EventSource("/console/live");
  const alive = () => { answered = Date.now(); lost.hidden = true; };
  source.addEventListener("open", alive);
  source.addEventListener("all", (event) => { alive(); samples = JSON.parse(event.data); show(); });
  source.addEventListener("sample", (event) => {
    alive();
    samples = [...samples.slice(-179), JSON.parse(event.data)];
    show();
    if (document.visibilityState === "visible") document.body.dispatchEvent(new CustomEvent("stanby:sample"));
  });
  source.addEventListener("error", async () => {
    if (source.readyState === EventSource.OPEN) return;
    try {
      const answer = await fetch("/console/live", { method: "HEAD", redirect: "manual" });
      // Somebody who is not logged in any more is led to the form.
      if (answer.type === "opaqueredirect") location.reload();
      else if (Date.now() - answered < 60000) return;
    } catch {
      lost.hidden = false;
    }
  });
}
