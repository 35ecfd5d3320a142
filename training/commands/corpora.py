"""Commands that download, check and convert corpora."""

import json
from pathlib import Path
from typing import Annotated

import typer

from service.conversation.labels import UNIFIED, load_label_spaces
from training.commands.terminal import DATA, Force, LabelData, errors, say


def fetch(
    corpora: Annotated[list[str], typer.Argument(help="meld, emorynlp, goemotions, ...")],
    data: Annotated[
        Path, typer.Option(help="Folder to which the corpus paths of recipes are relative.")
    ],
    label_data: LabelData = DATA,
) -> None:
    """Download corpora from their public sources, verified by hash; resumes where it stopped."""
    from training.datasets import download

    with errors():
        manifests = [download.load_manifest(label_data / "corpora", name) for name in corpora]
        download.fetch_all(manifests, data, say)


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="A shared pickle of IEMOCAP, MELD or EmoryNLP, or the folder of the IEMOCAP "
            "release."
        ),
    ],
    label_space: Annotated[str, typer.Option(help="iemocap, meld or emorynlp.")],
    out: Annotated[Path, typer.Option(help="Folder for train.jsonl, dev.jsonl and test.jsonl.")],
    force: Force = False,
    label_data: LabelData = DATA,
) -> None:
    """Write the train, dev and test splits of a corpus as JSONL; code in a pickle is not run.

    In the IEMOCAP release, Session 5 is the test split, and every tenth dialogue of the other
    sessions, by name, is the development split.
    """
    from service.dialogue_files import write_dialogues
    from service.outputs import check_files
    from training.datasets import iemocap, pickles

    with errors():
        spaces = load_label_spaces(label_data / "label_spaces")
        if label_space not in spaces:
            raise ValueError(f"unknown label space {label_space!r}; known are {', '.join(spaces)}")
        if source.is_dir() and label_space != iemocap.LABEL_SPACE:
            raise ValueError(f"{source}: is a folder; name a shared pickle for {label_space}")
        parts = [source / name for name in iemocap.SESSIONS] if source.is_dir() else [source]
        files = (f"{split}.jsonl" for split in pickles.SPLITS)
        check_files(out, files, (*parts, label_data / "label_spaces"), force=force)
        read = iemocap.read_splits if source.is_dir() else pickles.read
        splits = read(source, spaces[label_space])
        out.mkdir(parents=True, exist_ok=True)
        for split, dialogues in splits.items():
            path = out / f"{split}.jsonl"
            write_dialogues(dialogues, path)
            utterances = sum(len(dialogue.utterances) for dialogue in dialogues)
            say(f"{path}: {len(dialogues)} dialogues, {utterances} utterances")


def describe(
    corpus: Annotated[str, typer.Argument(help="FORMAT:PATH, as in `evaluate --corpus`.")],
    descriptions: Annotated[
        Path,
        typer.Argument(
            metavar="DESCRIPTIONS.jsonl",
            help='Rows such as {"utterance": "dia0_utt3", "description": "..."}, or with '
            '"dialogue" and "index" instead of "utterance".',
        ),
    ],
    out: Annotated[Path, typer.Option(help="File for the dialogues, as JSONL.")],
    force: Force = False,
    label_data: LabelData = DATA,
) -> None:
    """Write a corpus with descriptions of its scenes as JSONL, for the template dialoguellm-v1."""
    from service.dialogue_files import write_dialogues
    from service.outputs import check_files
    from training.datasets.descriptions import with_descriptions
    from training.datasets.reading import read_all_named

    with errors():
        spaces = load_label_spaces(label_data / "label_spaces")
        (read,) = read_all_named([corpus], spaces, [descriptions])
        check_files(
            out.parent,
            [out.name],
            (read.path, descriptions, label_data / "label_spaces"),
            force=force,
        )
        dialogues = with_descriptions(read.dialogues, descriptions)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_dialogues(dialogues, out)
    utterances = [utterance for dialogue in dialogues for utterance in dialogue.utterances]
    missing = sum(utterance.description is None for utterance in utterances)
    say(
        f"{out}: {len(dialogues)} dialogues, {len(utterances)} utterances, "
        f"{missing} of them without a description"
    )


def check(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Corpus files or folders, or FORMAT:PATH."),
    ],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="meld, emorynlp, goemotions, iemocap, dailydialog or jsonl; by default detected "
            "from the contents.",
        ),
    ] = None,
    label_space: Annotated[
        str | None,
        typer.Option(help="The label space to check the labels of jsonl files against."),
    ] = None,
    in_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    label_data: LabelData = DATA,
) -> None:
    """Report the contents of corpora and every fault in them; loads no model.

    Exits with status 1 if there is a fault; gaps in the numbering of utterances are not faults.
    """
    from training.datasets.checking import as_markdown, check_all

    with errors():
        spaces = load_label_spaces(label_data / "label_spaces")
        checked = check_all(files, spaces, format_, label_space)
    if in_json:
        say(json.dumps([one.to_json() for one in checked], ensure_ascii=False, indent=2))
    else:
        say("\n\n".join(map(as_markdown, checked)))
    if any(one.reading.faults for one in checked):
        raise typer.Exit(1)


def demonstrations(
    corpora: Annotated[
        list[str], typer.Argument(help="Training splits as FORMAT:PATH, as in `evaluate --corpus`.")
    ],
    out: Annotated[Path, typer.Option(help="File for the demonstrations, as JSONL.")],
    balanced: Annotated[
        bool, typer.Option(help="Draw as many of each label as the rarest label has.")
    ] = True,
    unified: Annotated[
        bool, typer.Option(help="Also add all of them with unified labels.")
    ] = False,
    held_out: Annotated[
        list[str] | None,
        typer.Option(help="FORMAT:PATH of a split whose dialogues are excluded; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 42,
    force: Force = False,
    label_data: LabelData = DATA,
) -> None:
    """Make demonstrations from corpora, for `evaluate` or the service; the corpus licences apply.

    The service includes their text in its responses.
    """
    from service.outputs import check_file
    from training.datasets.leakage import without_held_out
    from training.datasets.reading import read_all_named
    from training.mixture.demonstration_files import domain_base, write_demonstrations

    with errors():
        spaces = load_label_spaces(label_data / "label_spaces")
        read = read_all_named([*corpora, *(held_out or ())], spaces)
        named, apart = read[: len(corpora)], read[len(corpora) :]
        check_file(
            out, (*(c.path for c in (*named, *apart)), label_data / "label_spaces"), force=force
        )
        read = without_held_out(named, apart)
        asked = {c.label_space.name: c.label_space for c in read}
        if unified:
            asked[UNIFIED] = spaces[UNIFIED]
        made = domain_base(read, asked.values(), seed, balanced=balanced)
        write_demonstrations(made, out)
    say(f"{out}: {len(made)} demonstrations in {', '.join(asked)}")


def prompts(
    source: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="Dialogues, one per line.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="One prompt per utterance.")],
    template: Annotated[
        str, typer.Option(help="v2, instructerc-v1, instructerc-plain-v1 or dialoguellm-v1.")
    ] = "v2",
    task: Annotated[str, typer.Option(help="main, speaker or prediction.")] = "main",
    label_space: Annotated[
        str, typer.Option(help="meld, emorynlp, iemocap, dailydialog or unified.")
    ] = UNIFIED,
    window: Annotated[
        int | None, typer.Option(min=0, help="Lines of history; by default those of the template.")
    ] = None,
    force: Force = False,
    label_data: LabelData = DATA,
) -> None:
    """Write the prompts and targets of a file of dialogues."""
    from typing import get_args

    from service.conversation.dialogue import HistoryWindow
    from service.conversation.prompts.tokens import AnyTask
    from service.outputs import check_file
    from training.mixture.prompt_files import known_template, write_prompts

    with errors():
        check_file(target, (source, label_data / "label_spaces"), force=force)
        if task not in get_args(AnyTask):
            raise ValueError(f"unknown task {task!r}; known are {', '.join(get_args(AnyTask))}")
        spaces = load_label_spaces(label_data / "label_spaces")
        if label_space.casefold() not in spaces:
            raise ValueError(f"unknown label space {label_space!r}; known are {', '.join(spaces)}")
        chosen = known_template(template)
        shown = chosen.window if window is None else HistoryWindow(window, window)
        space = spaces[label_space.casefold()]
        rows = write_prompts(source, target, chosen, task, space, shown)  # type: ignore[arg-type]
    say(f"{rows} {'prompt' if rows == 1 else 'prompts'} written to {target}")
