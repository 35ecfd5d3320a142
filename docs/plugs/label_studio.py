"""Label Studio: dialogues as tasks with predictions, and what people annotate as corrections.

    python label_studio.py tasks --url URL --label-space meld call-42 call-43 > tasks.json
    python label_studio.py interface --url URL --label-space meld > interface.xml
    python label_studio.py corrections --url URL --label-space meld export.json

Import `tasks.json` into a project whose labelling interface is `interface.xml`, and export its
annotations as JSON. It needs only `pip install instructerc`; a key is read from `ERC_KEY`.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from instructerc import Client
from instructerc.models import TimedUtterance

_CHOICES, _TEXT = "emotion", "text"
_CONTEXT_LINES = 5


@dataclass(frozen=True, slots=True)
class Annotation:
    """A label that a person chose in Label Studio."""

    dialogue_id: str
    index: int
    label: str


def tasks_of(client: Client, dialogue_id: str, label_space: str) -> Iterator[dict[str, Any]]:
    """A task for each utterance of a dialogue that was answered in the label space."""
    utterances = list(_utterances(client, dialogue_id))
    for place, utterance in enumerate(utterances):
        if utterance.emotion.label_space == label_space:
            before = utterances[max(0, place - _CONTEXT_LINES) : place]
            yield _task(utterance, before)


def interface_of(client: Client, label_space: str) -> str:
    """The labelling interface of a project: the text with the lines before it, and the labels."""
    labels = [label.name for label in client.read_label_space(label_space).labels]
    choices = "".join(f"\n    <Choice value={quoteattr(label)}/>" for label in labels)
    return f"""<View>
  <Text name="context" value="$context"/>
  <Text name="{_TEXT}" value="$text"/>
  <Choices name="{_CHOICES}" toName="{_TEXT}" choice="single" required="true">{choices}
  </Choices>
</View>
"""


def annotations_of(tasks: Iterable[dict[str, Any]]) -> Iterator[Annotation]:
    """The last annotation of each task of an export that is not cancelled.

    Raises:
        ValueError: a task is none of `tasks_of`.
    """
    for task in tasks:
        kept = [each for each in task.get("annotations", ()) if not each.get("was_cancelled")]
        for annotation in sorted(kept, key=lambda each: each.get("created_at", ""))[-1:]:
            for region in annotation["result"]:
                if region.get("from_name") == _CHOICES and region["value"].get("choices"):
                    data = task["data"]
                    if not {"dialogue_id", "index"} <= data.keys():
                        raise ValueError(f"task {task.get('id')}: its data names no utterance")
                    label = region["value"]["choices"][0]
                    yield Annotation(data["dialogue_id"], int(data["index"]), label)


def correct(client: Client, annotations: Iterable[Annotation], label_space: str) -> int:
    """Correct the labels that differ from the timeline's; return how many."""
    corrected = 0
    for annotation in annotations:
        utterance = client.read_utterance(annotation.dialogue_id, annotation.index)
        known = utterance.correction or utterance.emotion
        if (known.label_space, known.label) != (label_space, annotation.label):
            client.correct_label(
                annotation.dialogue_id,
                annotation.index,
                annotation.label,
                label_space=label_space,
            )
            corrected += 1
    return corrected


def _utterances(client: Client, dialogue_id: str) -> Iterator[TimedUtterance]:
    after: int | None = None
    while True:
        page = client.read_dialogue(dialogue_id, after=after)
        yield from page.utterances
        if page.next is None:
            return
        after = page.utterances[-1].index


def _task(utterance: TimedUtterance, before: Sequence[TimedUtterance]) -> dict[str, Any]:
    emotion, model = utterance.emotion, utterance.model
    return {
        "data": {
            "dialogue_id": utterance.dialogue_id,
            "index": utterance.index,
            "context": "\n".join(f"{line.speaker}: {line.text}" for line in before),
            "text": f"{utterance.speaker}: {utterance.text}",
        },
        "predictions": [
            {
                "model_version": f"{model.bundle} {model.version}",
                "score": emotion.confidence,
                "result": [
                    {
                        "from_name": _CHOICES,
                        "to_name": _TEXT,
                        "type": "choices",
                        "value": {"choices": [emotion.label]},
                    }
                ],
            }
        ],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("what", choices=("tasks", "interface", "corrections"))
    parser.add_argument("names", nargs="*", help="ids of dialogues, or the exported file")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--label-space", default="unified")
    options = parser.parse_intermixed_args(arguments)
    space = options.label_space.casefold()
    with Client(options.url, key=os.environ.get("ERC_KEY")) as client:
        if options.what == "tasks":
            tasks = [task for name in options.names for task in tasks_of(client, name, space)]
            json.dump(tasks, sys.stdout, indent=1, ensure_ascii=False)
        elif options.what == "interface":
            print(interface_of(client, space), end="")
        else:
            for name in options.names:
                with open(name, encoding="utf-8") as file:  # noqa: PTH123, as the argument is typed
                    exported = json.load(file)
                print(f"{name}: {correct(client, annotations_of(exported), space)} corrected")


if __name__ == "__main__":
    main()
