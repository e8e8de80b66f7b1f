// Makes one part of a page like another and touches only what differs: focus, selection, scroll position, open
// menus and typed text stay. What carries `data-mine` belongs to the script or is shown once, and is left alone.

const key = (node) => node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key || "" : "";
// Without a key the first class says what an element is for: a note is not turned into a row of tiles.
const kind = (node) => node.nodeType === Node.ELEMENT_NODE ? `${node.nodeName}.${node.classList[0] || ""}` : node.nodeName;
const alike = (a, b) => kind(a) === kind(b) && key(a) === key(b);
const isMine = (node) => node.nodeType === Node.ELEMENT_NODE && node.hasAttribute("data-mine");

// Only the characters that differ, so that a selection in the others stays.
const retext = (node, text) => {
  const old = node.data;
  if (old === text) return;
  let head = 0;
  while (head < Math.min(old.length, text.length) && old[head] === text[head]) head++;
  let tail = 0;
  while (tail < Math.min(old.length, text.length) - head && old.at(-1 - tail) === text.at(-1 - tail)) tail++;
  node.replaceData(head, old.length - head - tail, text.slice(head, text.length - tail));
};

// What the reader opened stays open, and the field in hand keeps its text.
const isKept = (node, name) => name === "open" && ["DETAILS", "DIALOG"].includes(node.nodeName) || name === "value" && node === document.activeElement;

const attributes = (from, to) => {
  for (const { name, value } of to.attributes) {
    if (!isKept(from, name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (!isKept(from, name) && !to.hasAttribute(name)) from.removeAttribute(name);
  }
};

const children = (from, to) => {
  const wanted = [...to.childNodes];
  let at = from.firstChild;
  for (const [index, next] of wanted.entries()) {
    const comes = (node) => wanted.some((later, place) => place >= index && alike(node, later));
    while (at && !alike(at, next) && (isMine(at) || !comes(at))) {
      const passed = at;
      at = at.nextSibling;
      if (!isMine(passed)) passed.remove();
    }
    if (at && alike(at, next)) {
      node(at, next);
      at = at.nextSibling;
      continue;
    }
    const moved = key(next) && [...from.children].find((child) => alike(child, next));
    if (moved) node(moved, next);
    from.insertBefore(moved || document.importNode(next, true), at);
  }
  while (at) {
    const rest = at;
    at = at.nextSibling;
    if (!isMine(rest)) rest.remove();
  }
};

const node = (from, to) => {
  if (isMine(from)) return;
  if (from.nodeType !== Node.ELEMENT_NODE) return retext(from, to.data);
  if (from.nodeName === "TIME") {
    // The script writes its text.
    if (from.dateTime !== to.dateTime) from.dateTime = to.dateTime;
    return;
  }
  attributes(from, to);
  children(from, to);
};

// Makes the content of `from` like that of `to`.
export const morph = (from, to) => {
  const focused = document.activeElement;
  children(from, to);
  // An element that was moved loses the focus.
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
};
