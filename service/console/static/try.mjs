// The page to try the service: a conversation that is typed, or a transcript.

import { json, request } from "./api.mjs";
import { announce, byId, clearFault, download, plural } from "./elements.mjs";
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
  if (!utterances.length) throw new Error("There is no line to label: write one, such as “Ann: hello”.");
  const body = {
    label_space: byId("space").value,
    dialogues: [{ id: "typed", utterances }],
  };
  const { results } = await json("/batch?summary=true", { method: "POST", body });
  const [result] = results;
  show(spaces, [
    { ...result, utterances: result.utterances.map((each, at) => ({ ...utterances[at], ...each })) },
  ]);
  return `${plural(utterances.length, "line")} labelled; nothing is stored.`;
}

function transcript(accept) {
  const [file] = byId("file").files;
  if (!file) throw new Error("Choose a file first.");
  const asked = new URLSearchParams({ label_space: byId("upload-space").value });
  if (byId("from").value) asked.set("from", byId("from").value);
  const speaker = byId("speaker").value.trim();
  if (speaker) asked.set("speaker", speaker);
  const options = {
    method: "POST",
    raw: file,
    accept,
    headers: { "Content-Type": "application/octet-stream" },
  };
  return request(`/transcripts?${asked}`, options);
}

async function tryTranscript(spaces) {
  const answer = await (await transcript("application/json")).json();
  const dialogues = answer.results ?? answer.dialogues ?? [answer];
  show(spaces, dialogues);
  const count = dialogues.reduce((sum, each) => sum + each.utterances.length, 0);
  return `${plural(count, "line")} labelled; nothing is stored.`;
}

async function downloadScored() {
  const form = byId("form").value;
  const blob = await (await transcript(FORMS.get(form))).blob();
  const name = byId("file").files[0].name.replace(/\.[^.]*$/, "") || "transcript";
  download(blob, `${name}-labelled.${form}`);
  return "Downloaded.";
}

/** Show the first of some dialogues. */
function show(spaces, [dialogue]) {
  byId("result").hidden = false;
  byId("lines").replaceChildren();
  const list = byId("lines").cloneNode(false); // without the listeners of the last result
  byId("lines").replaceWith(list);
  const view = new View({ list, curves: byId("curves") });
  view.add(...dialogue.utterances.map((utterance) => new Line(spaces, utterance)));
  const goTo = (index) => view.choose(view.lines[index]);
  byId("summary").replaceChildren(
    ...(dialogue.summary ? summaryOf(spaces, dialogue.summary, goTo) : []),
  );
}
