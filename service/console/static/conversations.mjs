// The page with the list of conversations, as they are written to.

import { ROOT, conversationAddress, dialoguePath, json, key } from "./api.mjs";
import { sparkline } from "./curve.mjs";
import {
  announce,
  byId,
  clearFault,
  element,
  moment,
  plural,
  signed,
  userText,
} from "./elements.mjs";
import { run } from "./frame.mjs";
import { labelSpaces } from "./labels.mjs";

const REFRESH_MS = 4000;
const LIMIT = 30;
// Of a curve in the list: the last utterances.
const MOST_POINTS = 60;
const MOST_READ_AT_ONCE = 3;

const HOURS = { hour: 1, day: 24, week: 168 };

run(async () => {
  const spaces = await labelSpaces();
  const list = new List(spaces);
  offerLabels(spaces);
  byId("filter-details").open = matchMedia("(min-width: 44rem)").matches;
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("change", () => {
    offerLabels(spaces);
    list.start();
  });
  byId("clear").addEventListener("click", () => {
    byId("filters").reset();
    offerLabels(spaces);
    list.start();
  });
  byId("more").addEventListener("click", () => list.more());
  document.addEventListener("visibilitychange", () => document.hidden || list.refresh());
  await list.start();
});

function offerLabels(spaces) {
  const { label_space: space, label } = byId("filters").elements;
  if (!space.options.length) space.append(...spaces.options("unified"));
  const chosen = label.value;
  label.replaceChildren(
    element("option", { value: "" }, "any label"),
    ...spaces.labels(space.value).map((name) => element("option", { value: name }, name)),
  );
  label.value = [...label.options].some((option) => option.value === chosen) ? chosen : "";
  // Conditions on a label, and its label space, mean nothing without it.
  for (const name of ["min_share", "min_probability"]) {
    byId("filters").elements[name].disabled = label.value === "";
  }
}

function query() {
  const fields = new FormData(byId("filters"));
  const asked = new URLSearchParams({ sort: fields.get("sort"), limit: LIMIT });
  for (const name of ["speaker", "role"]) {
    if (fields.get(name).trim()) asked.set(name, fields.get(name).trim());
  }
  if (fields.get("label")) {
    asked.set("label", fields.get("label"));
    asked.set("label_space", fields.get("label_space"));
    for (const name of ["min_share", "min_probability"]) {
      const share = Number(fields.get(name)) / 100;
      if (share > 0) asked.set(name, String(Math.min(share, 1)));
    }
  }
  const hours = HOURS[fields.get("since")];
  if (hours) asked.set("updated_since", new Date(Date.now() - hours * 3_600_000).toISOString());
  return asked;
}

/** Where the next page begins. Only that is taken of a link, never its host or path. */
const afterOf = (next) => next && new URL(next, ROOT).searchParams.get("after");

class List {
  constructor(spaces) {
    this.spaces = spaces;
    this.rows = new Map();
    this.unread = [];
    this.reading = 0;
    this.round = 0;
  }

  /** Read the list from its beginning, with the filters as they are. */
  async start() {
    this.round += 1;
    this.first = [];
    this.rest = [];
    await this.refresh();
  }

  /** Read the first page again: what has changed most recently, or is worst. */
  async refresh() {
    clearTimeout(this.timer);
    const round = this.round;
    let waitMs = REFRESH_MS;
    try {
      const page = await json(`/dialogues?${query()}`);
      if (round !== this.round) return;
      if (this.isLost) clearFault();
      this.isLost = false;
      const ids = new Set(page.dialogues.map((each) => each.id));
      // What has moved off the first page is on a later one that is shown, or not shown at all.
      const moved = this.rest.length
        ? this.first.filter((each) => page.next && !ids.has(each.id))
        : [];
      this.rest = [...moved, ...this.rest.filter((each) => !ids.has(each.id))];
      this.first = page.dialogues;
      if (!this.rest.length) this.next = afterOf(page.next);
      this.show();
    } catch (error) {
      if (round !== this.round) return;
      this.isLost = true;
      announce(`The list is not up to date. ${error.message}`, { isFault: true });
      if (error.status === 401 || error.status === undefined) return;
      waitMs = Math.max(REFRESH_MS, 1000 * error.retryAfterS);
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => document.hidden || this.refresh(), waitMs);
  }

  /** Read the next page. */
  async more() {
    const round = this.round;
    try {
      const asked = query();
      asked.set("after", this.next);
      const page = await json(`/dialogues?${asked}`);
      if (round !== this.round) return;
      const known = new Set([...this.first, ...this.rest].map((each) => each.id));
      this.rest.push(...page.dialogues.filter((each) => !known.has(each.id)));
      this.next = afterOf(page.next);
      this.show();
    } catch (error) {
      announce(error.message, { isFault: true });
    }
  }

  show() {
    const shown = [...this.first, ...this.rest];
    const body = byId("rows");
    const ids = new Set(shown.map((each) => each.id));
    for (const [id, row] of this.rows) {
      if (ids.has(id)) continue;
      row.node.remove();
      this.rows.delete(id);
    }
    shown.forEach((overview, place) => {
      const row = this.#row(overview);
      // A row that is in its place is left alone, so that the focus stays in it.
      if (body.children[place] !== row.node)
        body.insertBefore(row.node, body.children[place] ?? null);
    });
    byId("more").hidden = !this.next;
    byId("main").removeAttribute("aria-busy");
    byId("list").hidden = !shown.length;
    const isFiltered = [...query().keys()].some((name) => name !== "sort" && name !== "limit");
    byId("none-match").hidden = shown.length > 0 || !isFiltered;
    byId("empty").hidden = shown.length > 0 || isFiltered;
    if (!byId("empty").hidden) showHow();
  }

  #row(overview) {
    const known = this.rows.get(overview.id);
    if (known?.overview.updated_at === overview.updated_at) return known;
    const row = known ?? { node: element("tr"), curve: element("td.cell-curve") };
    row.overview = overview;
    const { valence, shift, utterances, speakers } = overview;
    row.link ??= element(
      "a",
      { href: conversationAddress(overview.id) },
      userText("", overview.id),
    );
    row.cells ??= {
      updated: element("td.cell-moment"),
      size: element("td.cell-size"),
      valence: element("td.number"),
      shift: element("td.number"),
    };
    row.cells.updated.replaceChildren(moment(overview.updated_at));
    row.cells.size.textContent = `${plural(utterances, "line")}, ${plural(speakers, "speaker")}`;
    row.cells.valence.textContent = valence === null ? "–" : signed(valence);
    row.cells.shift.textContent = shift === null ? "–" : signed(shift);
    if (known) {
      row.node.classList.remove("is-new");
      void row.node.offsetWidth; // so that the animation begins again
      row.node.classList.add("is-new");
    } else {
      const { updated, size, valence: mean, shift: change } = row.cells;
      row.node.append(
        element("th", { scope: "row" }, row.link),
        row.curve,
        mean,
        change,
        size,
        updated,
      );
      this.rows.set(overview.id, row);
    }
    this.unread.push(row);
    this.#readCurves();
    return row;
  }

  /** Read the curves that are out of date, a few at a time. */
  #readCurves() {
    while (this.reading < MOST_READ_AT_ONCE && this.unread.length) {
      const row = this.unread.shift();
      if (!row.node.isConnected && this.rows.get(row.overview.id) !== row) continue;
      this.reading += 1;
      this.#readCurve(row).finally(() => {
        this.reading -= 1;
        this.#readCurves();
      });
    }
  }

  async #readCurve(row) {
    const { id, utterances } = row.overview;
    const before = utterances - MOST_POINTS - 1;
    const asked = `limit=${MOST_POINTS}${before >= 0 ? `&after=${before}` : ""}`;
    try {
      const timeline = await json(`${dialoguePath(id)}?${asked}`);
      const values = timeline.utterances.map((each) =>
        this.spaces.valence(each.emotion, each.correction),
      );
      const known = values.filter((value) => value !== null);
      if (!known.length) return row.curve.replaceChildren("–");
      const [first, last] = [signed(known[0]), signed(known.at(-1))];
      const words = `valence from ${first} to ${last} over ${plural(known.length, "line")}`;
      row.curve.replaceChildren(sparkline(values, words));
    } catch (error) {
      row.curve.replaceChildren("–"); // erased meanwhile, or the quota is spent
      if (!error.retryAfterS) return;
      setTimeout(() => {
        this.unread.push(row);
        this.#readCurves();
      }, 1000 * error.retryAfterS);
    }
  }
}

/** How a first conversation gets here. */
function showHow() {
  const withKey = key.get() === null ? "" : ' -H "authorization: Bearer $KEY"';
  byId("how").textContent =
    `curl ${ROOT}/dialogues/call-42/utterances${withKey} ` +
    `-H 'content-type: application/json' ` +
    `-d '{"speaker": "Ann", "text": "We won!", "label_space": "meld"}'`;
}
