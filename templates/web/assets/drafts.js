// What was typed into a form is there again when sending it ended at the login or on an error page. It is kept in
// this tab alone, for an hour, for the same user; never passwords and other secrets.

const PLACE = "order-relay.typed";
const HOUR_MS = 3600000;
const here = () => location.pathname + location.search;
const user = () => document.body.dataset.user || "";

const read = () => {
  try { return JSON.parse(sessionStorage.getItem(PLACE)); } catch { return null; }
};
const write = (draft) => {
  try {
    if (draft) sessionStorage.setItem(PLACE, JSON.stringify(draft)); else sessionStorage.removeItem(PLACE);
  } catch { /* too large, or switched off: the form works without it */ }
};

const isKept = (field) => field.name && field.name !== "csrf" && !field.hasAttribute("data-secret")
  && !["password", "file", "submit", "button", "reset", "fieldset"].includes(field.type)
  && !/password|one-time-code/.test(field.autocomplete || "");
const isBox = (field) => ["checkbox", "radio"].includes(field.type);
const fields = (form) => [...form.elements].filter(isKept);
const record = (form) => ({
  action: form.getAttribute("action"),
  fields: fields(form).map((field) => [field.name, field.value, isBox(field) ? field.checked : null]),
});
const keep = (forms) => write({ user: user(), page: here(), at: Date.now(), back: false, forms: forms.map(record) });

const isChanged = (field) => {
  if (isBox(field)) return field.checked !== field.defaultChecked;
  if (field.options) return [...field.options].some((option) => option.selected !== option.defaultSelected && option.defaultSelected);
  return field.type !== "hidden" && field.value !== field.defaultValue;
};
const ours = (form) => form.method === "post" && user() && form.getAttribute("action") !== "/logout";

// Before the page leaves by itself.
export const keepTyped = () => {
  const typed = [...document.forms].filter((form) => ours(form) && fields(form).some(isChanged));
  if (typed.length) keep(typed);
};

const namesIn = (form, kept) => kept.fields.filter(([name]) => form.elements.namedItem(name)).length;

// The form of that address which has most of the fields.
const formOf = (kept) => [...document.forms].filter((form) => form.getAttribute("action") === kept.action)
  .sort((a, b) => namesIn(b, kept) - namesIn(a, kept))[0];

const fill = (kept) => {
  const form = formOf(kept);
  const rest = [...kept.fields];
  const filled = [];
  for (const field of form ? fields(form) : []) {
    const at = rest.findIndex(([name, value]) => name === field.name && (!isBox(field) || value === field.value));
    if (at < 0) continue;
    const [[, value, checked]] = rest.splice(at, 1);
    if (field.disabled) continue;
    if (isBox(field)) field.checked = checked; else field.value = value;
    if (field.type === "hidden") continue;
    field.dispatchEvent(new Event("change", { bubbles: true }));
    filled.push(field);
  }
  return filled;
};

const restore = (draft) => {
  const filled = draft.forms.flatMap(fill);
  if (!filled.length) return;
  const note = document.createElement("div");
  note.className = "note wait";
  note.dataset.mine = "";
  note.setAttribute("role", "status");
  note.textContent = document.body.dataset.restored;
  filled[0].form.before(note);
  for (const field of filled) {
    for (let box = field.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  }
  const text = filled.find((field) => !isBox(field) && field.checkVisibility());
  (text || filled[0]).focus();
};

// On the login and on an error page: the way back leads to the form.
const leadBack = (draft) => {
  write({ ...draft, back: true });
  const back = document.querySelector("[data-back]");
  if (back) back.href = draft.page;
  const login = document.querySelector("form[action='/login']");
  if (!login) return;
  login.elements.namedItem("return_to").value = draft.page;
  for (const link of document.querySelectorAll("a[href^='/login/oidc']")) link.href = `/login/oidc?return_to=${encodeURIComponent(draft.page)}`;
  document.querySelector("[data-typed]")?.removeAttribute("hidden");
};

export const bringBackTyped = () => {
  const draft = read();
  document.addEventListener("submit", ({ target }) => {
    if (ours(target)) keep([target]);
    else if (target.getAttribute("action") === "/logout") write(null);
  });
  if (!draft) return;
  if (Date.now() - draft.at > HOUR_MS) return write(null);
  if (document.body.dataset.draft === "keep") return leadBack(draft);
  if (!draft.back || draft.user !== user()) return write(null);
  if (draft.page !== here()) return;
  write(null);
  restore(draft);
};
