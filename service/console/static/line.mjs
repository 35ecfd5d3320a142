// A line of a conversation: who says what when, its label, and on request why.

import { conversationAddress } from "./api.mjs";
import { details } from "./details.mjs";
import { element, moment, offset, percent, userText } from "./elements.mjs";
import { labelled, ribbon } from "./labels.mjs";

export class Line {
  /**
   * @param {LabelSpaces} spaces
   * @param {object} utterance as the API answers it, with speaker and text
   * @param {{dialogueId?: string, correction?: object|null, isLinked?: boolean, note?: string}}
   *   options `dialogueId`: null where the dialogue is not stored; `isLinked`: it leads to its
   *   conversation; `note`: shown beside the label
   */
  constructor(spaces, utterance, options = {}) {
    const { dialogueId = null, correction = null, isLinked = false, note = "" } = options;
    Object.assign(this, { spaces, utterance, dialogueId, note });
    this.index = utterance.index;
    this.space = utterance.emotion.label_space;
    this.answer = element("div.line-answer");
    this.text = userText(".line-text", utterance.text);
    this.more = element(
      "button.quiet.line-more",
      { type: "button", "aria-expanded": "false", tabindex: "-1", click: () => this.toggle() },
      "Details",
    );
    this.node = element(
      "li.line",
      { tabindex: "-1", "data-index": this.index },
      element("div.line-time", {}, ...this.#time(isLinked)),
      element(
        "div.line-said",
        {},
        userText(".line-speaker", utterance.speaker),
        utterance.role ? userText(".line-role", utterance.role) : null,
        this.text,
      ),
      this.answer,
      this.more,
    );
    this.show(correction);
  }

  /** The label that counts: the person's, or else the answer's. */
  get label() {
    return this.correction?.label ?? this.utterance.emotion.label;
  }

  get valence() {
    return this.spaces.valence(this.utterance.emotion, this.correction);
  }

  /** In words, for screen readers. */
  get inWords() {
    const { speaker, text, emotion } = this.utterance;
    const source = this.correction ? "corrected" : percent(emotion.confidence);
    return `${speaker}: ${text} ${this.label}, ${source}`;
  }

  /** Show a person's label, or none. */
  show(correction) {
    this.correction = correction;
    const { emotion, model_alone: alone, degraded, truncated } = this.utterance;
    const isOther = alone && alone.label !== emotion.label;
    const marks = this.note ? [element("span.muted", {}, this.note)] : [];
    if (correction) {
      const predicted = `model: ${emotion.label} ${percent(emotion.confidence)}`;
      marks.push(element("span.mark", {}, "✓ corrected"), element("span.muted", {}, predicted));
    } else if (alone) {
      marks.push(element("span.mark", {}, "decided with corrections"));
      if (isOther) {
        const without = `model alone: ${alone.label} ${percent(alone.confidence)}`;
        marks.push(element("span.muted", {}, without));
      }
    }
    if (emotion.trained === false) marks.push(element("span.mark", {}, "from examples"));
    for (const reason of degraded ?? [])
      marks.push(element("span.mark", {}, `degraded: ${reason}`));
    if (truncated) marks.push(element("span.mark", {}, "only the end was read"));
    this.answer.replaceChildren(
      labelled(this.spaces, correction?.label_space ?? this.space, this.label),
      element("span.share", {}, correction ? "" : percent(emotion.confidence)),
      ribbon(this.spaces, emotion),
      marks.length ? element("span.marks", {}, ...marks) : "",
    );
    this.node.classList.toggle("is-corrected", correction !== null);
  }

  /** Be the line that keys act on, or not: only that one and its links are stops of the Tab key. */
  setCurrent(isCurrent) {
    const stops = [this.node, ...this.node.querySelectorAll(":scope > .line-time a, .line-more")];
    for (const stop of stops) stop.setAttribute("tabindex", isCurrent ? "0" : "-1");
    if (isCurrent) this.node.setAttribute("aria-current", "true");
    else this.node.removeAttribute("aria-current");
  }

  /** Open or close the details. */
  toggle(isOpen = !this.details) {
    if (isOpen === Boolean(this.details)) return;
    this.details?.remove();
    this.details = isOpen ? details(this) : null;
    if (this.details) this.node.append(this.details);
    this.more.setAttribute("aria-expanded", String(isOpen));
  }

  #time(isLinked) {
    const { start, created_at: createdAt } = this.utterance;
    const number = String(this.index + 1);
    const when = start != null ? offset(start) : createdAt ? moment(createdAt) : "";
    if (!isLinked) return [element("span.line-number", {}, number), when];
    const address = conversationAddress(this.dialogueId);
    return [
      element("a", { href: address, tabindex: "-1" }, userText(".line-dialogue", this.dialogueId)),
      element("span.line-number", {}, `line ${number}`),
    ];
  }
}
