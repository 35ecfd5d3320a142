// Label spaces: their labels in order, a colour for each, and the valence of an answer.

import { json } from "./api.mjs";
import { element, percent } from "./elements.mjs";

// Colours go by the unified label, so that a feeling has one colour in all label spaces.
const UNIFIED = new Set("joyful excited peaceful powerful neutral sad mad fear disgust".split(" "));
const SENTIMENTS = new Map([
  ["positive", "joyful"],
  ["neutral", "neutral"],
  ["negative", "mad"],
]);
const OTHER_TONES = 6;

let loading = null;

/** @returns {Promise<LabelSpaces>} those that the key can see */
export function labelSpaces() {
  loading ??= json("/label-spaces")
    .then(({ label_spaces }) => new LabelSpaces(label_spaces))
    .catch((error) => {
      loading = null;
      throw error;
    });
  return loading;
}

class LabelSpaces {
  constructor(documents) {
    this.all = documents;
    this.byName = new Map(documents.map((space) => [space.name, space]));
    this.weights = new Map();
    for (const space of documents) {
      // As the service's own valences: of several that divide a label space, the first counts.
      const labels = new Map(space.labels.map((label) => [label.name, label]));
      if (!space.derived_from || labels.size !== 3) continue;
      const [positive, negative] = [labels.get("positive"), labels.get("negative")];
      if (!positive || !negative || !labels.has("neutral")) continue;
      this.weights.set(space.name, { positive: 1, neutral: 0, negative: -1 });
      if (this.weights.has(space.derived_from)) continue;
      const weights = Object.create(null);
      for (const { name } of this.byName.get(space.derived_from)?.labels ?? []) {
        weights[name] = (positive.of[name] ?? 0) - (negative.of[name] ?? 0);
      }
      this.weights.set(space.derived_from, weights);
    }
  }

  /** The names of the labels, in the label space's order. */
  labels(space, fallback = []) {
    return this.byName.get(space)?.labels.map((label) => label.name) ?? fallback;
  }

  /** The class that colours a label. */
  tone(space, label) {
    const known = this.byName.get(space)?.labels ?? [];
    const place = known.findIndex((each) => each.name === label);
    const unified = known[place]?.unified ?? SENTIMENTS.get(label);
    if (UNIFIED.has(unified)) return `tone-${unified}`;
    return `tone-other-${(Math.max(place, 0) % OTHER_TONES) + 1}`;
  }

  /** The valence of an utterance, -1 to 1; a person's label counts in place of the answer. */
  valence(emotion, correction) {
    if (correction) {
      const value = this.weights.get(correction.label_space)?.[correction.label];
      if (value !== undefined) return value;
    }
    const weights = this.weights.get(emotion.label_space);
    if (!weights) return null;
    let sum = 0;
    for (const [label, share] of Object.entries(emotion.probabilities)) {
      if (weights[label] === undefined) return null;
      sum += weights[label] * share;
    }
    return Math.max(-1, Math.min(1, sum));
  }

  /** Options of those that answers can be in. */
  options(chosen) {
    return this.all
      .filter((space) => space.available)
      .map((space) =>
        element("option", { value: space.name, selected: space.name === chosen }, space.title),
      );
  }
}

/** A bar of the probabilities of all labels, in the label space's order. */
export function ribbon(spaces, emotion) {
  const shares = Object.entries(emotion.probabilities);
  const inWords = [...shares]
    .sort((one, other) => other[1] - one[1])
    .slice(0, 3)
    .map(([label, share]) => `${label} ${percent(share)}`)
    .join(", ");
  const bar = element("span.ribbon", { role: "img", "aria-label": inWords, title: inWords });
  for (const [label, share] of shares) {
    if (share < 0.01) continue;
    const part = element(`i.${spaces.tone(emotion.label_space, label)}`);
    if (label === emotion.label) part.classList.add("is-label");
    part.style.flexGrow = share;
    bar.append(part);
  }
  return bar;
}

/** A label, with its colour beside it. */
export const labelled = (spaces, space, label) =>
  element(
    "span.label",
    {},
    element(`i.swatch.${spaces.tone(space, label)}`, { "aria-hidden": "true" }),
    element("bdi", {}, label),
  );
