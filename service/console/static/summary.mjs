// The summary of a conversation, above its lines.

import { element, percent, plural, signed, userText } from "./elements.mjs";
import { labelled } from "./labels.mjs";

/**
 * @param {LabelSpaces} spaces
 * @param {object} summary as the API answers it
 * @param {(index: number) => void} goTo shows a line
 * @returns {Node[]}
 */
export function summaryOf(spaces, summary, goTo) {
  const at = (index) =>
    element("button.link", { type: "button", click: () => goTo(index) }, `line ${index + 1}`);
  const parts = [
    ...summary.speakers.map((part) => [part.speaker, part]),
    ...summary.roles.map((part) => [`all with the role ${part.role}`, part]),
  ];
  return [
    element(
      "dl.figures",
      {},
      ...figure("Lines", `${summary.utterances} by ${plural(summary.speaker_count, "speaker")}`),
      ...(summary.valence ? valence(summary.valence, at) : []),
      ...summary.label_spaces.flatMap((space) => runs(space, at)),
    ),
    ...summary.label_spaces.map((space) => shares(spaces, space)),
    parts.length > 1
      ? element(
          "details.parts",
          {},
          element("summary", {}, "By speaker"),
          element(
            "div.scrolls",
            { tabindex: "0", role: "region", "aria-label": "By speaker" },
            table(spaces, parts),
          ),
        )
      : "",
  ];
}

function figure(name, ...content) {
  return [element("div", {}, element("dt", {}, name), element("dd", {}, ...content))];
}

function valence({ mean, shift, lowest, highest }, at) {
  return [
    ...figure("Mean valence", signed(mean)),
    ...(shift === null ? [] : figure("From start to end", signed(shift))),
    ...figure("Lowest", `${signed(lowest.valence)}, `, at(lowest.index)),
    ...figure("Highest", `${signed(highest.valence)}, `, at(highest.index)),
  ];
}

function runs({ longest_run: run, agreement }, at) {
  const { corrected, compared, agreed } = agreement;
  return [
    ...(run.length > 1
      ? figure("Longest run", `${run.length} × ${run.label}, `, at(run.first))
      : []),
    ...(corrected
      ? figure("Corrected", `${corrected}, the model agreed with ${agreed} of ${compared}`)
      : []),
  ];
}

function shares(spaces, { label_space: name, labels, utterances }) {
  const bar = element("div.shares", { "aria-hidden": "true" });
  for (const { label, share } of labels) {
    const part = element(`i.${spaces.tone(name, label)}`);
    part.style.flexGrow = share;
    bar.append(part);
  }
  const items = labels.map(({ label, count, share, low, high }) =>
    element(
      "li",
      { title: `95% interval: ${percent(low)} to ${percent(high)}` },
      labelled(spaces, name, label),
      element("span.muted", {}, `${count} (${percent(share)})`),
    ),
  );
  return element(
    "div.label-shares",
    {},
    element("h3", {}, name, element("span.muted", {}, ` ${plural(utterances, "line")}`)),
    bar,
    element("ul", {}, ...items),
  );
}

function table(spaces, parts) {
  const heads = ["", "lines", "mean valence", "start to end", "most frequent"];
  const rows = parts.map(([name, part]) => {
    const [first] = part.label_spaces;
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, userText("", name)),
      element("td", {}, String(part.utterances)),
      element("td", {}, part.valence ? signed(part.valence.mean) : "–"),
      element("td", {}, part.valence?.shift != null ? signed(part.valence.shift) : "–"),
      element(
        "td",
        {},
        first ? labelled(spaces, first.label_space, first.labels[0].label) : "–",
        first ? ` ${percent(first.labels[0].share)}` : "",
      ),
    );
  });
  return element(
    "table",
    {},
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        ...heads.map((head) => (head ? element("th", { scope: "col" }, head) : element("td"))),
      ),
    ),
    element("tbody", {}, ...rows),
  );
}
