// Times: the clock of the reader, and beside it how long ago that is. The exact one is a tooltip.
const lang = document.documentElement.lang || "en";
const exact = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(lang, { day: "numeric", month: "short" });
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const relative = new Intl.RelativeTimeFormat(lang, { numeric: "auto", style: "short" });
const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

const distance = (at) => {
  const seconds = Math.round((at - Date.now()) / 1000);
  const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) || units[3];
  return relative.format(Math.trunc(seconds / size), unit);
};

// "10:14" today, "26 Nov, 10:14" on another day.
const onTheClock = (at) => {
  const today = at.toDateString() === new Date().toDateString();
  return today ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`;
};

// What did not change is not touched: somebody may be selecting it.
const write = (place, text) => { if (place.textContent !== text) place.textContent = text; };

const show = (time) => {
  const at = new Date(time.dateTime);
  if (Number.isNaN(at.getTime())) return;
  const title = `${exact.format(at)} (${zone})`;
  if (time.title !== title) time.title = title;
  if (time.classList.contains("exact")) return write(time, exact.format(at));
  if (!time.querySelector(".ago")) {
    const [main, ago] = [document.createElement("span"), document.createElement("small")];
    ago.className = "ago";
    time.replaceChildren(main, " ", ago);
  }
  write(time.firstElementChild, onTheClock(at));
  write(time.lastElementChild, distance(at));
};

export const showTimes = (root = document) => { for (const time of root.querySelectorAll("time[datetime]")) show(time); };
