// Lines and curves side by side: what is marked in one is marked in the other.

import { SpeakerCurve } from "./curve.mjs";
import { element, userText } from "./elements.mjs";

const MOST_CURVES = 12;

export class View {
  /** @param {{list: HTMLElement, curves: HTMLElement, onCurrent?: () => void}} places */
  constructor({ list, curves, onCurrent = () => {} }) {
    Object.assign(this, { list, curves, onCurrent });
    this.lines = [];
    this.current = null;
    this.speakers = new Map();
    this.caption = element(
      "p.curve-caption",
      {},
      element("span.muted", {}, "Point at a line or a curve."),
    );
    this.figures = element("div.curve-list");
    curves.replaceChildren(this.figures, this.caption);
    this.waiting = [];
    list.addEventListener("pointerover", (event) => this.mark(this.#lineOf(event)));
    list.addEventListener("pointerleave", () => this.mark(null));
    list.addEventListener("focusin", (event) => this.#become(this.#lineOf(event)));
    list.addEventListener("click", (event) => {
      const line = this.#lineOf(event);
      if (line && !event.target.closest("a, button")) this.choose(line);
    });
  }

  /** Add lines at the end; they are drawn together, in the next frame. */
  add(...lines) {
    if (!this.waiting.length) requestAnimationFrame(() => this.#draw());
    this.waiting.push(...lines);
  }

  /** Draw the curves again after a line's label has changed. */
  redraw() {
    this.changed ??= requestAnimationFrame(() => {
      this.changed = null;
      this.#drawCurves();
    });
  }

  /** Make a line the current one and give it the focus. */
  choose(line) {
    line.node.focus({ preventScroll: true });
    line.node.scrollIntoView({ block: "nearest" });
  }

  /** Go on by so many lines. */
  step(by) {
    const here = this.current ? this.lines.indexOf(this.current) : by > 0 ? -1 : this.lines.length;
    const line = this.lines[Math.max(0, Math.min(this.lines.length - 1, here + by))];
    if (line) this.choose(line);
  }

  /** Mark a line in list and curves, or the current one where there is none. */
  mark(line) {
    const marked = line ?? this.current;
    if (marked === this.marked) return;
    this.marked?.node.classList.remove("is-marked");
    this.marked = marked;
    if (!marked) return;
    marked.node.classList.add("is-marked");
    for (const [speaker, { curve }] of this.speakers) {
      const isTheirs = speaker === marked.utterance.speaker;
      curve?.mark(isTheirs ? marked.index : -1, marked.label);
    }
    this.caption.replaceChildren(
      element("span.muted", {}, `line ${marked.index + 1} `),
      userText("", marked.inWords),
    );
  }

  #become(line) {
    if (!line || line === this.current) return;
    // Until then, the first line is the stop of the Tab key.
    (this.current ?? this.lines[0]).setCurrent(false);
    this.current = line;
    line.setCurrent(true);
    this.mark(line);
    this.onCurrent();
  }

  #lineOf(event) {
    const index = event.target.closest?.(".line")?.dataset.index;
    return index === undefined ? null : (this.lines[Number(index)] ?? null);
  }

  #draw() {
    const added = this.waiting.splice(0);
    if (!this.lines.length && added.length) added[0].node.setAttribute("tabindex", "0");
    this.lines.push(...added);
    this.list.append(...added.map((line) => line.node));
    for (const line of added) this.#speaker(line).lines.push(line);
    this.#drawCurves();
  }

  #speaker(line) {
    const name = line.utterance.speaker;
    const known = this.speakers.get(name);
    if (known) return known;
    let curve = null;
    if (this.speakers.size < MOST_CURVES) {
      curve = new SpeakerCurve(name, (index, { isChosen, hasFocus }) => {
        const pointed = this.lines[index];
        this.mark(pointed);
        if (isChosen && !hasFocus) this.choose(pointed);
        else if (hasFocus) pointed.node.scrollIntoView({ block: "nearest" });
      });
      this.figures.append(curve.node);
    } else if (this.speakers.size === MOST_CURVES) {
      this.figures.append(element("p.muted", {}, "Further speakers have no curve."));
    }
    const speaker = { curve, lines: [] };
    this.speakers.set(name, speaker);
    return speaker;
  }

  #drawCurves() {
    for (const { curve, lines } of this.speakers.values()) {
      const points = lines.map((line) => ({
        index: line.index,
        valence: line.valence,
        isCorrected: line.correction !== null,
      }));
      curve?.draw(points, this.lines.length);
    }
    const marked = this.marked;
    this.marked = null;
    this.mark(marked);
  }
}
