// The page of one conversation: its lines as they come.

import { ROOT, dialoguePath, json, key } from "./api.mjs";
import { Corrections } from "./corrections.mjs";
import { announce, byId, plural } from "./elements.mjs";
import { follow } from "./follow.mjs";
import { run } from "./frame.mjs";
import { Labelling } from "./labelling.mjs";
import { labelSpaces } from "./labels.mjs";
import { Line } from "./line.mjs";
import { summaryOf } from "./summary.mjs";
import { View } from "./view.mjs";

const SUMMARY_AFTER_MS = 1000;
// Past lines come in quick succession; when none has come for so long, what comes is new.
const QUIET_MS = 500;
const NEAR_THE_END_PX = 160;

window.addEventListener("hashchange", () => location.reload());

run(async ({ mayWrite }) => {
  const id = idOfAddress();
  if (!id) {
    location.replace(`${ROOT}/console`);
    return;
  }
  byId("title").textContent = id;
  document.title = `${id} · InstructERC`;
  const spaces = await labelSpaces();
  await new Conversation(id, spaces, mayWrite).follow();
});

function idOfAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return location.hash.slice(1); // not encoded as the console does it
  }
}

class Conversation {
  constructor(id, spaces, mayWrite) {
    Object.assign(this, { id, spaces });
    this.view = new View({
      list: byId("lines"),
      curves: byId("curves"),
      onCurrent: () => this.labelling.refresh(),
    });
    this.corrections = new Corrections(() => {
      this.view.redraw();
      this.labelling.refresh();
      this.#summarizeSoon();
    });
    this.labelling = new Labelling({
      region: byId("lines-region"),
      bar: byId("bar"),
      list: this.view,
      spaces,
      corrections: this.corrections,
      mayWrite,
    });
    this.labelling.refresh();
    this.known = new Map();
    this.unseen = 0;
    byId("to-end").addEventListener("click", () => this.#toEnd());
    document.addEventListener("scroll", () => this.#isNearEnd() && this.#seen(), { passive: true });
  }

  /** Show the events until the conversation is erased. */
  async follow() {
    const connection = byId("connection");
    const onConnection = (isOpen) => {
      connection.dataset.state = isOpen ? "live" : "lost";
      connection.textContent = isOpen ? "Live" : "Connection lost, trying again…";
    };
    try {
      const events = follow(ROOT, this.id, { key: key.get(), onConnection });
      for await (const { event, data } of events) {
        if (event === "prediction") this.#add(data);
        else if (event === "correction") this.#correct(data);
        else if (event === "erased") break;
      }
      connection.dataset.state = "ended";
      connection.textContent = "Erased";
      this.#clear();
      announce("This conversation was erased.", { isFault: true });
    } catch (error) {
      connection.dataset.state = "ended";
      connection.textContent = "Not followed";
      const isMissing = error.cause?.status === 404;
      const message = isMissing
        ? "There is no such conversation, or it is not yours."
        : error.message;
      announce(message, { isFault: true });
    }
    byId("main").removeAttribute("aria-busy");
  }

  #add(utterance) {
    if (this.known.has(utterance.index)) return;
    const isNew = performance.now() - this.newestAt > QUIET_MS;
    this.newestAt = performance.now();
    this.isCaughtUp ||= isNew && this.known.size > 0;
    const line = new Line(this.spaces, utterance, { dialogueId: this.id });
    this.known.set(line.index, line);
    byId("main").removeAttribute("aria-busy");
    const wasNearEnd = this.#isNearEnd();
    this.view.add(line);
    if (this.isCaughtUp) {
      announce(line.inWords);
      if (wasNearEnd) requestAnimationFrame(() => requestAnimationFrame(() => this.#toEnd()));
      else this.#unseen();
    }
    this.#summarizeSoon();
  }

  #correct({ index, correction }) {
    const line = this.known.get(index);
    if (!line) return;
    this.corrections.receive(line, correction);
  }

  /** Show nothing more of it: what is erased is not to stay on screens either. */
  #clear() {
    clearTimeout(this.timer);
    this.isCleared = true;
    for (const place of ["lines", "curves", "summary", "bar"]) byId(place).replaceChildren();
    byId("notice").textContent = "";
    byId("to-end").hidden = true;
  }

  #isNearEnd() {
    const { scrollHeight } = document.documentElement;
    return window.scrollY + window.innerHeight > scrollHeight - NEAR_THE_END_PX;
  }

  #unseen() {
    this.unseen += 1;
    byId("to-end").hidden = false;
    byId("to-end").textContent = `${plural(this.unseen, "new line")} below`;
  }

  #seen() {
    this.unseen = 0;
    byId("to-end").hidden = true;
  }

  #toEnd() {
    window.scrollTo({ top: document.documentElement.scrollHeight });
    this.#seen();
  }

  #summarizeSoon() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.#summarize();
    }, SUMMARY_AFTER_MS);
  }

  async #summarize() {
    try {
      const summary = await json(`${dialoguePath(this.id)}/summary`);
      if (this.isCleared) return;
      const isOpen = byId("summary").querySelector("details")?.open ?? false;
      const goTo = (index) => this.known.has(index) && this.view.choose(this.known.get(index));
      byId("summary").replaceChildren(...summaryOf(this.spaces, summary, goTo));
      if (isOpen) byId("summary").querySelector("details").open = true;
    } catch (error) {
      if (error.status !== 404) announce(`The summary is out of date. ${error.message}`);
    }
  }
}
