// Optional improvements of the pages. Reading and all forms work without this script. No library, no inline code: the content security policy allows neither.
import { bringBackTyped } from "./drafts.js";
import { watchLiveParts } from "./live.js";
import { showTimes } from "./times.js";

(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const lang = document.documentElement.lang || "en";

  bringBackTyped();
  showTimes();
  setInterval(showTimes, 20000);
  watchLiveParts();

  // Commands to copy.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    event.preventDefault();
    const text = button.closest(".command").querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
      say(button.dataset.done);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(button.closest(".command").querySelector("code"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
    }
  });
  const say = (text) => {
    const place = document.getElementById("said");
    if (place) place.textContent = text;
  };

  // Lists: picking, counting, actions on one row, keyboard.
  const list = document.querySelector("form[data-list]");
  if (list) {
    const boxes = () => all("input[name=order]", list);
    const page = list.querySelector("[data-pick-page]");
    const every = list.querySelector("[name=all]");
    const count = () => {
      const picked = boxes().filter((box) => box.checked).length;
      const number = every?.checked ? Number(every.dataset.count) : picked;
      for (const place of all("[data-picked]", list)) place.textContent = number.toLocaleString(lang);
      for (const button of all("[data-needs-pick]", list)) {
        if (!button.dataset.forbidden) button.disabled = number === 0;
      }
      if (page) {
        page.checked = picked > 0 && picked === boxes().length;
        page.indeterminate = picked > 0 && picked < boxes().length;
      }
    };
    page?.closest("label")?.removeAttribute("hidden");
    page?.addEventListener("change", () => { for (const box of boxes()) box.checked = page.checked; count(); });
    list.addEventListener("change", count);
    count();

    const rows = () => all("tbody tr[data-order]", list);
    let at = -1;
    const go = (to) => {
      const lines = rows();
      if (!lines.length) return;
      at = Math.max(0, Math.min(lines.length - 1, to));
      lines.forEach((line, index) => line.classList.toggle("at", index === at));
      lines[at].querySelector("a")?.focus({ preventScroll: true });
      lines[at].scrollIntoView({ block: "nearest" });
    };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), textarea, select, dialog")) return;
      const line = rows()[at];
      if (event.key === "j") go(at + 1);
      else if (event.key === "k") go(at - 1);
      else if (event.key === "x" && line) { const box = line.querySelector("input[name=order]"); if (box) { box.checked = !box.checked; count(); } }
      else if (event.key === "t" && line) line.querySelector("button[data-transfer]:not(:disabled)")?.click();
      else if (event.key === "?") document.getElementById("keys")?.showModal?.();
    });

    list.addEventListener("click", async (event) => {
      const button = event.target.closest("button[data-transfer]");
      if (!button) return;
      event.preventDefault();
      const place = button.closest("tr").querySelector("[data-result]");
      button.disabled = true;
      place.textContent = button.dataset.waiting;
      place.className = "soft";
      try {
        const answer = await fetch(button.getAttribute("formaction"), {
          method: "POST",
          headers: { Accept: "application/json", "Content-Type": "application/x-www-form-urlencoded" },
          body: new URLSearchParams({ csrf: list.querySelector("[name=csrf]").value }),
        });
        const result = await answer.json();
        place.textContent = result.text || result.detail || answer.statusText;
        place.className = result.good ? "good" : "bad";
        button.disabled = Boolean(result.good);
        say(place.textContent);
      } catch {
        place.textContent = button.dataset.lost;
        place.className = "bad";
        button.disabled = false;
      }
    });
  }

  // The search of every page.
  document.addEventListener("keydown", (event) => {
    const writes = event.target.closest?.("input:not([type=checkbox]), textarea, select, dialog");
    const slash = event.key === "/" && !writes && !event.ctrlKey && !event.metaKey && !event.altKey;
    if (!slash && !(event.key === "k" && (event.ctrlKey || event.metaKey))) return;
    const field = document.querySelector(".find input");
    if (!field) return;
    event.preventDefault();
    const menu = document.getElementById("menu");
    if (menu && !field.checkVisibility()) menu.checked = true;
    field.focus();
    field.select();
  });

  // A form is sent only once, even if the button is pressed repeatedly.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent) { event.preventDefault(); return; }
    if (form.method === "post" && !form.dataset.list) {
      form.dataset.sent = "1";
      for (const button of all("button", form)) button.setAttribute("aria-busy", "true");
    }
  });
  addEventListener("pageshow", () => { for (const form of all("form[data-sent]")) delete form.dataset.sent; });

  // Fields that apply only to one choice.
  for (const choice of all("select[data-shows]")) {
    const show = () => {
      if (choice.form.dataset.list === undefined) choice.form.elements.text.required = choice.value === "other";
      for (const field of all("[data-for]", choice.form)) {
        field.hidden = field.dataset.for !== choice.value;
        // The form of a list has other buttons that need no reason.
        if (choice.form.dataset.list === undefined) field.querySelector("input").required = !field.hidden;
      }
    };
    choice.addEventListener("change", show);
    show();
  }
  document.querySelector("[data-keys]")?.addEventListener("click", () => document.getElementById("keys")?.showModal?.());
})();
