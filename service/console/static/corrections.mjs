// A person's corrections: shown at once, sent in order, taken back where they are refused.

import { dialoguePath, request } from "./api.mjs";
import { announce } from "./elements.mjs";

const labelPath = (line) => `${dialoguePath(line.dialogueId)}/utterances/${line.index}/label`;

export class Corrections {
  /** @param {(line: Line) => void} onChange called when another correction of a line is shown */
  constructor(onChange = () => {}) {
    this.onChange = onChange;
    this.done = [];
    this.pending = new Map();
  }

  /** Give a line a label. */
  set(line, label) {
    const step = { line, before: line.correction };
    this.done.push(step);
    this.#send(line, { label_space: line.space, label }, step);
  }

  /** Take back the newest correction of this tab that still stands; returns its line, or null. */
  undo() {
    const step = this.done.pop();
    if (!step) return null;
    this.#send(step.line, step.before, null);
    return step.line;
  }

  /** Show what the service says of a line, unless an own correction is on its way. */
  receive(line, correction) {
    const pending = this.pending.get(line);
    if (pending) pending.stored = correction;
    else this.#show(line, correction);
  }

  #show(line, correction) {
    line.show(correction);
    this.onChange(line);
  }

  #send(line, correction, step) {
    const pending = this.pending.get(line) ?? {
      count: 0,
      stored: line.correction,
      last: Promise.resolve(),
    };
    this.pending.set(line, pending);
    pending.count += 1;
    line.node.setAttribute("aria-busy", "true");
    this.#show(line, correction);
    pending.last = pending.last.then(async () => {
      try {
        pending.stored = await put(line, correction, pending.stored);
      } catch (error) {
        if (step) this.done = this.done.filter((each) => each !== step);
        const what = correction ? `Line ${line.index + 1} is not corrected` : "Nothing is undone";
        announce(`${what}. ${error.message}`, { isFault: true });
      }
      pending.count -= 1;
      if (pending.count > 0) return;
      this.pending.delete(line);
      line.node.removeAttribute("aria-busy");
      this.#show(line, pending.stored);
    });
  }
}

async function put(line, correction, stored) {
  if (!correction) {
    if (stored) await request(labelPath(line), { method: "DELETE" });
    return null;
  }
  const { label, label_space } = correction;
  const body = { label, label_space };
  return (await request(labelPath(line), { method: "PUT", body })).json();
}
