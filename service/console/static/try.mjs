// The page to try the service: a conversation that is typed, or a transcript.

import { json, request } from "./api.mjs";
import { announce, byId, clearFault, download, element, plural } from "./elements.mjs";
import { run } from "./frame.mjs";
import { labelSpaces } from "./labels.mjs";
import { Line } from "./line.mjs";
import { summaryOf } from "./summary.mjs";
import { View } from "./view.mjs";

const NOBODY = "Speaker";
const NAMED = /^\s*([^:\s][^:]{0,99}):(?:\s+|$)(.*)$/;
const FORMS = new Map([
  ["jsonl", "application/x-ndjson"],
  ["csv", "text/csv"],
  ["vtt", "text/vtt"],
  ["json", "application/json"],
]);

// What a file's name says of it; it matters where its content does not tell.
const MEDIA_TYPES = new Map([
  ["csv", "text/csv"],
  ["tsv", "text/tab-separated-values"],
  ["vtt", "text/vtt"],
  ["srt", "application/x-subrip"],
  ["json", "application/json"],
  ["jsonl", "application/x-ndjson"],
  ["ndjson", "application/x-ndjson"],
]);
// Dialogues of a file that can be chosen between.
const MOST_DIALOGUES = 200;

run(async () => {
  const spaces = await labelSpaces();
  byId("space").append(...spaces.options("meld"));
  byId("upload-space").append(...spaces.options("meld"));
  byId("main").removeAttribute("aria-busy");
  byId("typed").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(event.target, () => tryTyped(spaces));
  });
  byId("upload").addEventListener("submit", (event) => {
    event.preventDefault();
    const { id } = event.submitter;
    submit(event.target, () => (id === "download" ? downloadScored() : tryTranscript(spaces)));
  });
  // Until now, a click would have sent the form as browsers do.
  document.querySelectorAll(".ways button").forEach((button) => (button.disabled = false));
});

/** Run what a form asks for; meanwhile it cannot be asked again. */
async function submit(form, ask) {
  const buttons = [...form.querySelectorAll("button")];
  buttons.forEach((button) => (button.disabled = true));
  clearFault();
  announce("Asking the model…");
  try {
    announce(await ask());
  } catch (error) {
    announce("");
    announce(error.message, { isFault: true });
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
}

/** Utterances of lines such as "Ann: hello"; one without a name is the previous speaker's. */
export function utterancesOf(text) {
  let speaker = NOBODY;
  const utterances = [];
  for (const row of text.split(/\r\n|[\n\r\u0085\u2028\u2029]/)) {
    const [, name, said] = NAMED.exec(row) ?? [null, null, row];
    if (name !== null) speaker = name.trim();
    if (said.trim()) utterances.push({ speaker, text: said.trim() });
  }
  return utterances;
}

async function tryTyped(spaces) {
  const utterances = utterancesOf(byId("text").value);
  if (!utterances.length)
    throw new Error("There is no line to label: write one, such as “Ann: hello”.");
  const body = {
    label_space: byId("space").value,
    dialogues: [{ id: "typed", utterances }],
  };
  const { results } = await json("/batch?summary=true", { method: "POST", body });
  const [result] = results;
  show(spaces, [
    {
      ...result,
      utterances: result.utterances.map((each, at) => ({ ...utterances[at], ...each })),
    },
  ]);
  return `${plural(utterances.length, "line")} labelled; nothing is stored.`;
}

function transcript(accept) {
  const [file] = byId("file").files;
  if (!file) throw new Error("Choose a file first.");
  const asked = new URLSearchParams({ label_space: byId("upload-space").value });
  const name = stem(file.name)
    .replace(/[\p{C}\p{Z}/\ufffd]+/gu, " ")
    .trim();
  if (/[^.]/.test(name)) asked.set("name", Array.from(name).slice(0, 200).join(""));
  if (byId("from").value) asked.set("from", byId("from").value);
  const speaker = byId("speaker").value.trim();
  if (speaker) asked.set("speaker", speaker);
  const suffix = file.name.split(".").pop().toLowerCase();
  const options = {
    method: "POST",
    raw: file,
    accept,
    headers: { "Content-Type": MEDIA_TYPES.get(suffix) ?? "application/octet-stream" },
  };
  return request(`/transcripts?${asked}`, options);
}

const stem = (name) => name.replace(/\.[^.]*$/, "") || "transcript";

async function tryTranscript(spaces) {
  const { results, unread } = await (await transcript("application/json")).json();
  if (unread.length) {
    const [{ line, detail }] = unread;
    const lines = plural(unread.length, "line");
    announce(`${lines} could not be read. Line ${line}: ${detail}`, { isFault: true });
  }
  const dialogues = results.map((result) => ({
    ...result,
    utterances: result.utterances.map((utterance, index) => ({ ...utterance, index })),
  }));
  if (!dialogues.length) return "The file has no dialogue.";
  show(spaces, dialogues);
  const count = dialogues.reduce((sum, each) => sum + each.utterances.length, 0);
  return `${plural(count, "line")} labelled; nothing is stored.`;
}

async function downloadScored() {
  const form = byId("form").value;
  const blob = await (await transcript(FORMS.get(form))).blob();
  download(blob, `${stem(byId("file").files[0].name)}-labelled.${form}`);
  return "Downloaded.";
}

/** Show dialogues: the first, and a way to choose another. */
function show(spaces, dialogues) {
  byId("result").hidden = false;
  const names = dialogues
    .slice(0, MOST_DIALOGUES)
    .map(({ id }, place) => element("option", { value: place }, id));
  const choice = element(
    "select",
    { change: () => showOne(spaces, dialogues[choice.value]) },
    ...names,
  );
  byId("choice").hidden = dialogues.length < 2;
  byId("choice").replaceChildren("Dialogue ", choice);
  showOne(spaces, dialogues[0]);
}

function showOne(spaces, dialogue) {
  const list = byId("lines").cloneNode(false); // without the listeners of the last result
  byId("lines").replaceWith(list);
  const view = new View({ list, curves: byId("curves") });
  view.add(...dialogue.utterances.map((utterance) => new Line(spaces, utterance)));
  const goTo = (index) => view.choose(view.lines[index]);
  byId("summary").replaceChildren(
    ...(dialogue.summary ? summaryOf(spaces, dialogue.summary, goTo) : []),
  );
}
