// Elements of pages. Text is only ever set as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An HTML element.
 *
 * @param {string} name of the tag, with classes: "span.muted"
 * @param {Record<string, unknown>} attributes functions are listeners; null and false are left out
 * @param {...(Node|string|number|null|false)} children strings become text
 */
export function element(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  node.classList.add(...classes);
  return filled(node, attributes, children);
}

/** An SVG element, as `element`. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== false));
  return node;
}

/** Text of users; its direction does not leak into what stands beside it. */
export const userText = (name, text, attributes = {}) =>
  element(`bdi${name}`, attributes, String(text));

export const byId = (id) => document.getElementById(id);

/** Tell the person about something: shown, and read out by screen readers. */
export function announce(message, { isFault = false } = {}) {
  const node = byId(isFault ? "fault" : "notice");
  node.textContent = message;
  clearTimeout(node.timer);
  if (!isFault) node.timer = setTimeout(() => (node.textContent = ""), 6000);
}

export const clearFault = () => (byId("fault").textContent = "");

export const percent = (share) => `${Math.round(100 * share)}%`;

/** A valence, with its sign: "+0.42", "−0.10". */
export const signed = (value) =>
  `${value < -0.004 ? "−" : value > 0.004 ? "+" : ""}${Math.abs(value).toFixed(2)}`;

export const plural = (count, one, many = `${one}s`) =>
  `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** Seconds from the beginning of a dialogue as "1:05" or "1:02:05". */
export function offset(seconds) {
  const whole = Math.floor(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** A moment: today the time of day, else the date too. */
export function moment(iso) {
  const date = new Date(iso);
  const isToday = date.toDateString() === new Date().toDateString();
  const text = isToday
    ? date.toLocaleTimeString("en-GB")
    : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  return element("time", { datetime: iso, title: date.toLocaleString("en-GB") }, text);
}

/** Offer data as a download. */
export function download(blob, name) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
