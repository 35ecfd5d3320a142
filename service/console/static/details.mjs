// What an answer is made of, and which words and lines it hangs on.

import { dialoguePath, json } from "./api.mjs";
import { announce, element, percent, userText } from "./elements.mjs";
import { labelled } from "./labels.mjs";

// Smaller differences are noise, as are those far smaller than the largest.
const LEAST_DROP = 0.02;
const LEAST_SHARE = 0.2;
const MOST_REASONS = 6;

// A service without the route says so once; then no button offers it.
let canExplain = true;

/** The details of a line: all probabilities, the demonstrations, a way to ask why. */
export function details(line) {
  const { model, emotion, description } = line.utterance;
  const isStored = line.dialogueId !== null;
  return element(
    "div.details",
    {},
    element("div", {}, element("h3", {}, "Probabilities"), probabilities(line)),
    element(
      "div",
      {},
      element("h3", {}, "Demonstrations"),
      demonstrations(line),
      isStored && canExplain ? why(line) : null,
    ),
    description ? element("p", {}, "Scene: ", userText("", description)) : null,
    element(
      "p.muted",
      {},
      `${model.bundle} ${model.version}, ${emotion.label_space}; `,
      `labels hold ${percent(emotion.label_mass)} of the model's probability`,
    ),
  );
}

function probabilities({ spaces, utterance: { emotion, model_alone: alone } }) {
  const rows = Object.entries(emotion.probabilities)
    .sort((one, other) => other[1] - one[1])
    .map(([label, share]) => {
      const bar = element(`i.bar.${spaces.tone(emotion.label_space, label)}`);
      bar.style.width = `${100 * share}%`;
      return element(
        "tr",
        {},
        element("th", { scope: "row" }, labelled(spaces, emotion.label_space, label)),
        element("td.bars", { "aria-hidden": "true" }, bar),
        element("td", {}, percent(share)),
        alone ? element("td", {}, percent(alone.probabilities[label] ?? 0)) : null,
      );
    });
  const head = [
    element("th", { scope: "col" }, "label"),
    element("td", { "aria-hidden": "true" }),
    element("th", { scope: "col" }, "answer"),
    alone ? element("th", { scope: "col" }, "model alone") : null,
  ];
  return element(
    "table.probabilities",
    {},
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows),
  );
}

function demonstrations({ spaces, space, utterance }) {
  if (!utterance.demonstrations.length) return element("p.muted", {}, "None was used.");
  const source = spaces.byName.get(space)?.derived_from ?? space;
  const items = utterance.demonstrations.map((each) =>
    element(
      "li",
      { "data-id": each.id },
      each.text === null
        ? element("span.muted", {}, "(its text is not available)")
        : userText(".demonstration-text", each.text),
      labelled(spaces, source, each.label),
      element(
        "span.muted",
        {},
        `similarity ${each.similarity.toFixed(2)}, `,
        each.weight > 0 ? element("b", {}, `weight ${percent(each.weight)}`) : "no weight",
        each.shown ? ", in the prompt" : ", not in the prompt",
      ),
    ),
  );
  return element("ul.demonstrations", {}, ...items);
}

function why(line) {
  const place = element("div.why", { "aria-live": "polite", tabindex: "-1" });
  const button = element("button", { type: "button", click: () => explain(line, place, button) });
  button.append("Why?");
  place.append(button);
  return place;
}

async function explain(line, place, button) {
  button.disabled = true;
  button.textContent = "Asking the model…";
  try {
    const path = `${dialoguePath(line.dialogueId)}/utterances/${line.index}?explain=true`;
    const { explanation } = await json(path);
    if (!explanation) return withdraw();
    const hadFocus = document.activeElement === button || document.activeElement === document.body;
    place.replaceChildren(...inWords(line, explanation));
    if (hadFocus) place.focus({ preventScroll: true });
  } catch (error) {
    if (["no-such-path", "method-not-allowed"].includes(error.kind)) withdraw();
    else {
      announce(`There is no explanation. ${error.message}`, { isFault: true });
      button.disabled = false;
      button.textContent = "Why?";
    }
  }
}

function withdraw() {
  canExplain = false;
  document.querySelectorAll(".why").forEach((each) => each.remove());
  announce("This service does not explain answers.");
}

function inWords({ utterance, spaces, space }, explanation) {
  const { label, probability, votes = 0, words, lines, demonstrations } = explanation;
  const rows = [
    ...words.map(({ word, drop }) => ["", userText("", `“${word}”`), drop]),
    ...lines.map(({ index, drop }) => ["line ", String(index + 1), drop]),
    ...demonstrations.map(({ id, drop }) => {
      const text = utterance.demonstrations.find((each) => each.id === id)?.text ?? id;
      return ["the demonstration ", userText("", `“${text}”`), drop];
    }),
  ];
  const largest = rows
    .filter(([, , drop]) => Math.abs(drop) >= LEAST_DROP)
    .sort((one, other) => Math.abs(other[2]) - Math.abs(one[2]))
    .slice(0, MOST_REASONS);
  const items = largest.map(([kind, name, drop]) =>
    element(
      "li",
      {},
      `without ${kind}`,
      name,
      `: ${percent(probability - drop)} (${drop > 0 ? "−" : "+"}${Math.round(100 * Math.abs(drop))})`,
    ),
  );
  return [
    element("h3", {}, "Why ", labelled(spaces, space, label), ` ${percent(probability)}`),
    votes > 0
      ? element(
          "p",
          {},
          `Corrections decide ${percent(votes)} of the answer. The rest is the model's:`,
        )
      : "",
    weighed(utterance.text, words),
    element(
      "p.muted",
      {},
      "Underlined: holds the label up. Dotted: speaks against it. Without it, the label has:",
    ),
    items.length
      ? element("ol.reasons", {}, ...items)
      : element("p.muted", {}, "No single word, line or demonstration changes the answer."),
  ];
}

/** The text, in which words that hold the label up are marked, the stronger the more. */
function weighed(text, words) {
  // Offsets count characters; JavaScript's own count the halves of some.
  const characters = Array.from(text);
  const most = Math.max(LEAST_DROP, ...words.map((each) => Math.abs(each.drop)));
  const parts = [];
  let at = 0;
  for (const { start, end, drop } of [...words].sort((one, other) => one.start - other.start)) {
    parts.push(characters.slice(at, start).join(""));
    const word = characters.slice(start, end).join("");
    const strength = Math.ceil((3 * Math.abs(drop)) / most);
    const isStrong = Math.abs(drop) >= Math.max(LEAST_DROP, LEAST_SHARE * most);
    parts.push(isStrong ? element(`mark.drop-${drop > 0 ? strength : "against"}`, {}, word) : word);
    at = end;
  }
  parts.push(characters.slice(at).join(""));
  return element("p.weighed", {}, element("bdi", {}, ...parts));
}
