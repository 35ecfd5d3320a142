// The page of the lines to check next: the least certain ones first.

import { dialoguePath, json, request } from "./api.mjs";
import { Corrections } from "./corrections.mjs";
import { announce, byId, download, element, percent, plural, userText } from "./elements.mjs";
import { run } from "./frame.mjs";
import { Labelling } from "./labelling.mjs";
import { labelSpaces, labelled } from "./labels.mjs";
import { Line } from "./line.mjs";

const LIMIT = 50;
// When fewer are left, the next page is read.
const FEW = 10;
// Lines shown around the current one.
const BEFORE = 4;

run(async ({ mayWrite }) => {
  const spaces = await labelSpaces();
  const space = byId("space");
  space.append(...spaces.options("unified"));
  const remembered = decodeURIComponent(location.hash.slice(1));
  if (spaces.byName.get(remembered)?.available) space.value = remembered;
  const queue = new Queue(spaces, mayWrite);
  space.addEventListener("change", () => {
    history.replaceState(null, "", `#${encodeURIComponent(space.value)}`);
    queue.start();
  });
  byId("export").addEventListener("click", () => exportLines(space.value));
  await queue.start();
});

class Queue {
  constructor(spaces, mayWrite) {
    this.spaces = spaces;
    this.current = null;
    this.node = byId("lines");
    this.corrections = new Corrections((line) => {
      this.#count();
      if (line === this.current) this.labelling.refresh();
    });
    this.labelling = new Labelling({
      region: byId("lines-region"),
      bar: byId("bar"),
      list: this,
      spaces,
      corrections: this.corrections,
      mayWrite,
      onLabel: () => this.step(1),
    });
    this.node.addEventListener("focusin", (event) => this.#become(event));
  }

  async start() {
    this.round = (this.round ?? 0) + 1;
    this.lines = [];
    this.cursor = null;
    this.current = null;
    this.node.replaceChildren();
    byId("main").setAttribute("aria-busy", "true");
    await this.#read();
    byId("main").removeAttribute("aria-busy");
    byId("empty").hidden = this.lines.length > 0;
    this.labelling.refresh();
    if (this.lines.length) this.choose(this.lines[0]);
  }

  async #read() {
    const round = this.round;
    const asked = new URLSearchParams({
      label_space: byId("space").value,
      sort: "margin",
      corrected: "false",
      limit: LIMIT,
    });
    if (this.cursor) asked.set("cursor", this.cursor);
    const page = await json(`/utterances?${asked}`);
    if (round !== this.round) return;
    this.cursor = page.next;
    this.progress = page.progress;
    this.base = page.progress.corrected - this.#corrected();
    const known = new Set(this.lines.map((line) => `${line.index} ${line.dialogueId}`));
    for (const utterance of page.utterances) {
      const dialogueId = utterance.dialogue_id;
      if (known.has(`${utterance.index} ${dialogueId}`)) continue;
      const note = `margin ${percent(utterance.margin)}`;
      const line = new Line(this.spaces, utterance, { dialogueId, isLinked: true, note });
      this.lines.push(line);
      this.node.append(line.node);
    }
    this.#count();
  }

  step(by) {
    const here = this.current ? this.lines.indexOf(this.current) : -1;
    const line = this.lines[Math.max(0, Math.min(this.lines.length - 1, here + by))];
    if (line === this.current) announce("This is the last line.");
    else if (line) this.choose(line);
    if (this.cursor && this.lines.length - here < FEW && !this.isReading) {
      this.isReading = true;
      this.#read()
        .catch((error) => announce(error.message, { isFault: true }))
        .finally(() => (this.isReading = false));
    }
  }

  choose(line) {
    line.node.focus({ preventScroll: true });
    line.node.scrollIntoView({ block: "center" });
  }

  #become(event) {
    const line = this.lines.find((each) => each.node === event.target.closest(".line"));
    if (!line || line === this.current) return;
    this.current?.setCurrent(false);
    this.current?.context?.remove();
    this.current = line;
    line.setCurrent(true);
    this.#showContext(line);
    this.labelling.refresh();
  }

  /** Show the lines before, which the label depends on. */
  async #showContext(line) {
    if (line.index > 0 && !line.before) {
      const first = Math.max(0, line.index - BEFORE);
      const after = first > 0 ? `&after=${first - 1}` : "";
      const path = `${dialoguePath(line.dialogueId)}?limit=${line.index - first}${after}`;
      try {
        line.before = (await json(path)).utterances;
      } catch {
        return; // the line itself can be judged without
      }
    }
    if (line !== this.current || !line.before) return;
    line.context = element(
      "ol.context",
      { "aria-label": "Lines before" },
      ...line.before.map((each) => {
        const { label_space: space, label } = each.correction ?? each.emotion;
        return element(
          "li",
          {},
          userText(".line-speaker", each.speaker),
          userText("", each.text),
          labelled(this.spaces, space, label),
        );
      }),
    );
    line.node.prepend(line.context);
    line.node.scrollIntoView({ block: "nearest" });
  }

  #corrected() {
    return this.lines.filter((line) => line.correction).length;
  }

  #count() {
    if (!this.progress) return;
    const corrected = this.base + this.#corrected();
    const { utterances } = this.progress;
    byId("progress").max = Math.max(utterances, 1);
    byId("progress").value = corrected;
    byId("progress-text").textContent = `${corrected} of ${plural(utterances, "line")} checked`;
  }
}

async function exportLines(space) {
  try {
    const path = `/corrections?label_space=${encodeURIComponent(space)}`;
    const response = await request(path, { accept: "application/x-ndjson" });
    const blob = await response.blob();
    if (!blob.size) return announce("There is nothing to export: no line is corrected.");
    download(blob, `corrections-${space}.jsonl`);
    announce("Exported.");
  } catch (error) {
    announce(`Nothing is exported. ${error.message}`, { isFault: true });
  }
}
