// Labels by key and by button: j and k move, a digit gives a label, u undoes.

import { announce, clearFault, element } from "./elements.mjs";

export class Labelling {
  /**
   * @param {object} parts `region`: where keys work; `bar`: for the buttons; `list`: of the lines,
   *   with `current`, `step(by)` and `choose(line)`; `spaces`, `corrections`; `mayWrite`: whether
   *   the key may correct; `onLabel(line)`: called after a line was given a label
   */
  constructor({ region, bar, list, spaces, corrections, mayWrite, onLabel = () => {} }) {
    Object.assign(this, { bar, list, spaces, corrections, mayWrite, onLabel });
    region.addEventListener("keydown", (event) => this.#press(event));
    // Nothing has the focus after a page has loaded: moving starts without a click.
    document.addEventListener("keydown", (event) => {
      if (event.target === document.body && "jk".includes(event.key)) this.#press(event);
    });
    if (!mayWrite) {
      bar.replaceChildren(element("p.muted", {}, "Your key may read, but not correct labels."));
    }
  }

  /** Offer the labels of the current line. */
  refresh() {
    const line = this.list.current;
    if (!this.mayWrite) return;
    if (!line) {
      this.offered = null;
      this.bar.replaceChildren(
        element(
          "p.muted",
          {},
          "Choose a line to correct its label: click it, or press ",
          kbd("j"),
          ".",
        ),
      );
      return;
    }
    const labels = this.spaces.labels(
      line.space,
      Object.keys(line.utterance.emotion.probabilities),
    );
    if (this.offered !== labels.join("\n")) {
      this.offered = labels.join("\n");
      this.buttons = labels.map((label, place) =>
        element(
          "button",
          { type: "button", "data-label": label, click: () => this.#label(label) },
          place < 10 ? kbd(String((place + 1) % 10)) : null,
          element(`i.swatch.${this.spaces.tone(line.space, label)}`, { "aria-hidden": "true" }),
          element("bdi", {}, label),
        ),
      );
      const undo = element(
        "button",
        { type: "button", click: () => this.#undo() },
        kbd("u"),
        "Undo",
      );
      this.title = element("span.bar-title", { id: "bar-title" });
      const group = element("div.buttons", { role: "group", "aria-labelledby": "bar-title" });
      group.append(...this.buttons, undo);
      this.bar.replaceChildren(this.title, group);
    }
    this.title.textContent = `Label of line ${line.index + 1}`;
    for (const button of this.buttons) {
      const isChosen = button.dataset.label === line.label;
      button.setAttribute("aria-pressed", String(isChosen));
    }
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea, [role=slider], dialog")) return;
    const line = this.list.current;
    if (event.key === "j") this.list.step(1);
    else if (event.key === "k") this.list.step(-1);
    else if (event.key === "Enter" && event.target === line?.node) line.toggle();
    else if (event.key === "Escape" && line) line.toggle(false);
    else if (event.key === "u" && this.mayWrite) this.#undo();
    else if (/^[0-9]$/.test(event.key) && line && this.mayWrite) {
      const button = this.buttons?.[(Number(event.key) + 9) % 10];
      if (button) this.#label(button.dataset.label);
    } else return;
    event.preventDefault();
  }

  #label(label) {
    const line = this.list.current;
    if (!line) return;
    clearFault();
    this.corrections.set(line, label);
    announce(`Line ${line.index + 1}: ${label}`);
    this.refresh();
    this.onLabel(line);
  }

  #undo() {
    clearFault();
    const line = this.corrections.undo();
    if (!line) return announce("There is nothing to undo.");
    announce(`Line ${line.index + 1}: ${line.label} again`);
    this.list.choose(line);
    this.refresh();
  }
}

const kbd = (text) => element("kbd", {}, text);
