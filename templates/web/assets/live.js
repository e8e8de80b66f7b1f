// Parts that the server sends again while a page stands open: overview, a running redrive.
import { keepTyped } from "./drafts.js";
import { morph } from "./morph.js";
import { showTimes } from "./times.js";

// The whole page again, for what stands outside of its live part.
const refresh = async () => {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (answer.redirected || !answer.ok) {
    // The session has ended: what is being typed is there again after the login.
    keepTyped();
    location.reload();
    return;
  }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const main = document.getElementById("main");
  document.title = page.title;
  morph(main, page.getElementById("main"));
  showTimes(main);
};

// In the navigation and in the tab's title.
const showCounts = (counts) => {
  for (const [page, count] of Object.entries(counts)) {
    const place = document.querySelector(`.nav a[href="${page}"] .count`);
    if (!place) continue;
    if (place.textContent !== count) place.textContent = count;
    place.hidden = !count;
  }
  const lost = counts["/lost-orders"];
  const title = (lost ? `(${lost}) ` : "") + document.title.replace(/^\(\S+\) /, "");
  if (document.title !== title) document.title = title;
};

const state = (part) => part.querySelector("[data-refresh]")?.dataset.refresh;

const watch = (part) => {
  let source = null;
  const pause = document.querySelector(`[data-pause="${part.id}"]`);
  const stop = () => { source?.close(); source = null; pause?.classList.remove("live"); };
  const update = async (html) => {
    const before = state(part);
    const made = document.createElement("template");
    made.innerHTML = html;
    morph(part, made.content);
    showTimes(part);
    pause?.classList.add("live");
    if (state(part) !== before) await refresh().catch(() => {});
  };
  const start = () => {
    source = new EventSource(part.dataset.live);
    source.addEventListener("part", (event) => update(event.data));
    source.addEventListener("counts", (event) => showCounts(JSON.parse(event.data)));
    source.addEventListener("end", () => { stop(); refresh().catch(() => location.reload()); });
    source.onopen = () => pause?.classList.add("live");
    source.onerror = () => pause?.classList.remove("live");
  };
  pause?.removeAttribute("hidden");
  pause?.addEventListener("click", () => {
    const paused = source !== null;
    if (paused) stop(); else start();
    pause.setAttribute("aria-pressed", String(paused));
    pause.querySelector("span:last-child").textContent = paused ? pause.dataset.go : pause.dataset.stop;
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { if (source) { stop(); part.dataset.waits = "1"; } }
    else if (part.dataset.waits) { delete part.dataset.waits; start(); }
  });
  start();
};

export const watchLiveParts = () => { for (const part of document.querySelectorAll("[data-live]")) watch(part); };
