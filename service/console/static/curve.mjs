// Curves of valence, as SVG: -1 at the bottom, +1 at the top, one unit of width an utterance.

import { element, signed, svg, userText } from "./elements.mjs";

const MOST_DOTS = 80;
// Of a curve with more points, neighbours are averaged: a line through all would fill the box.
const MOST_POINTS = 150;

const y = (valence) => (1 - valence).toFixed(3);

// Strokes keep their width while the box is stretched, so a stroke of no length is a round dot.
const dots = (points) => points.map(([x, value]) => `M${x} ${y(value)}h0`).join("");

function line(points) {
  const size = Math.ceil(points.length / MOST_POINTS);
  if (size > 1) return line(averaged(points, size));
  return points.map(([x, value], place) => `${place ? "L" : "M"}${x} ${y(value)}`).join("");
}

function averaged(points, size) {
  const means = [];
  for (let first = 0; first < points.length; first += size) {
    const part = points.slice(first, first + size);
    const mean = (place) => part.reduce((sum, point) => sum + point[place], 0) / part.length;
    means.push([mean(0).toFixed(1), mean(1)]);
  }
  return means;
}

function box(width, attributes) {
  return svg(
    "svg",
    {
      viewBox: `-0.5 -0.15 ${Math.max(width, 1)} 2.3`,
      preserveAspectRatio: "none",
      ...attributes,
    },
    svg("path", { class: "curve-zero", d: `M-0.5 1H${Math.max(width, 1) - 0.5}` }),
  );
}

/** A small curve. `values`: null where an utterance has no valence. */
export function sparkline(values, description) {
  const points = values.map((value, x) => [x, value]).filter(([, value]) => value !== null);
  const drawing = box(values.length, {
    class: "sparkline",
    role: "img",
    "aria-label": description,
  });
  drawing.append(svg("path", { class: "curve-line", d: line(points) }));
  const last = points.at(-1);
  if (last) drawing.append(svg("path", { class: "curve-dot", d: dots([last]) }));
  return drawing;
}

/** A speaker's curve; it marks an utterance, and tells which one the person points at. */
export class SpeakerCurve {
  /**
   * @param {(index: number, how: {isChosen: boolean, hasFocus: boolean}) => void} onPoint called
   *   with an utterance of this speaker; `isChosen`: not only pointed at; `hasFocus`: by the
   *   curve's keys
   */
  constructor(speaker, onPoint) {
    this.points = [];
    this.onPoint = onPoint;
    this.value = element("output.curve-value");
    this.line = svg("path", { class: "curve-line" });
    this.dots = svg("path", { class: "curve-dot" });
    this.people = svg("path", { class: "curve-dot is-corrected" });
    this.cursor = svg("path", { class: "curve-cursor" });
    this.here = svg("path", { class: "curve-dot is-here" });
    this.drawing = box(1, {
      class: "curve",
      tabindex: "0",
      role: "slider",
      "aria-label": `Valence of ${speaker}; arrow keys move from line to line`,
      "aria-valuemin": "0",
      "aria-valuemax": "0",
      "aria-valuenow": "0",
      "aria-valuetext": "no line chosen",
      keydown: (event) => this.#move(event),
      pointermove: (event) => this.#point(event),
      click: (event) => this.#point(event),
    });
    this.drawing.append(this.line, this.dots, this.people, this.cursor, this.here);
    this.node = element(
      "figure.curve-of",
      {},
      element("figcaption", {}, userText(".curve-name", speaker), this.value),
      element(
        "div.curve-box",
        {},
        this.drawing,
        element("span.curve-top", { "aria-hidden": "true" }, "+1"),
        element("span.curve-bottom", { "aria-hidden": "true" }, "−1"),
      ),
    );
  }

  /** @param {{index: number, valence: number|null, isCorrected: boolean}[]} lines the speaker's */
  draw(lines, length) {
    this.lines = lines.filter((each) => each.valence !== null);
    this.points = this.lines.map((each) => [each.index, each.valence]);
    this.length = Math.max(length, 2);
    this.drawing.setAttribute("viewBox", `-0.5 -0.15 ${this.length} 2.3`);
    this.drawing.querySelector(".curve-zero").setAttribute("d", `M-0.5 1H${this.length - 0.5}`);
    this.drawing.setAttribute("aria-valuemax", String(this.length - 1));
    this.line.setAttribute("d", line(this.points));
    const marked = (wanted) =>
      dots(this.points.filter((_, place) => this.lines[place].isCorrected === wanted));
    this.dots.setAttribute("d", this.points.length <= MOST_DOTS ? marked(false) : "");
    this.people.setAttribute("d", marked(true));
    const mean = this.points.reduce((sum, [, value]) => sum + value, 0) / this.points.length;
    this.mean = this.points.length ? `mean ${signed(mean)}` : "no valence";
    this.value.textContent = this.mean;
  }

  /** Mark an utterance, or none; `label` says what it is. */
  mark(index, label = "") {
    const at = this.points.find(([x]) => x === index);
    this.cursor.setAttribute("d", at ? `M${at[0]} -0.1V2.1` : "");
    this.here.setAttribute("d", at ? dots([at]) : "");
    this.value.textContent = at ? `line ${index + 1} ${signed(at[1])}` : this.mean;
    if (!at) return;
    this.drawing.setAttribute("aria-valuenow", String(index));
    this.drawing.setAttribute(
      "aria-valuetext",
      `line ${index + 1}, ${label}, valence ${signed(at[1])}`,
    );
    this.marked = index;
  }

  #point(event) {
    const { left, width } = this.drawing.getBoundingClientRect();
    const x = ((event.clientX - left) / width) * this.length - 0.5;
    let nearest = null;
    for (const [index] of this.points) {
      if (nearest === null || Math.abs(index - x) < Math.abs(nearest - x)) nearest = index;
    }
    if (nearest !== null) {
      this.onPoint(nearest, { isChosen: event.type === "click", hasFocus: false });
    }
  }

  #move(event) {
    const places = this.points.map(([index]) => index);
    if (!places.length) return;
    const here = places.indexOf(this.marked);
    const target = {
      ArrowLeft: Math.max(here - 1, 0),
      ArrowDown: Math.max(here - 1, 0),
      ArrowRight: Math.min(here + 1, places.length - 1),
      ArrowUp: Math.min(here + 1, places.length - 1),
      Home: 0,
      End: places.length - 1,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    this.onPoint(places[target], { isChosen: true, hasFocus: true });
  }
}
