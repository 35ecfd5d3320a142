"""Commands that evaluate models."""

import asyncio
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.conversation.labels import UNIFIED, load_label_spaces
from training.commands.terminal import DATA, Force, LabelData, errors, say, say_aside


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    corpus: Annotated[
        list[str],
        typer.Option(
            help="meld:PATH, emorynlp:PATH, iemocap:FOLDER, dailydialog:FOLDER or "
            "jsonl/LABEL_SPACE:PATH; repeatable, corpora of one label space are scored together."
        ),
    ],
    unified: Annotated[
        bool, typer.Option(help="Also score all corpora in the unified label space.")
    ] = False,
    demonstrations: Annotated[
        bool, typer.Option(help="Include the shipped demonstrations in prompts.")
    ] = True,
    demonstrations_file: Annotated[
        Path | None, typer.Option(help="Use these demonstrations instead of the shipped ones.")
    ] = None,
    record: Annotated[
        list[Path] | None,
        typer.Option(help="Bundle or adapter to write calibration and scores into; repeatable."),
    ] = None,
    calibration: Annotated[
        Literal["best", "temperature", "bias-corrected", "isotonic"],
        typer.Option(
            help="The calibration to fit: a temperature, a temperature with a bias for each label, "
            "a curve for each label, or the best of them on other dialogues."
        ),
    ] = "best",
    predictions: Annotated[
        Path | None,
        typer.Option(help="File for the model's uncalibrated predictions, as JSONL; written last."),
    ] = None,
    task: Annotated[
        Literal["main", "prediction"],
        typer.Option(help="main, or prediction: turns are forecast and not in the prompt."),
    ] = "main",
    label_orders: Annotated[
        int,
        typer.Option(
            min=0, help="Number of random orders of the prompt's labels in which to ask again."
        ),
    ] = 0,
    free_decode: Annotated[
        bool,
        typer.Option(
            "--free-decode",
            help="Also let the model generate text: is it a label, and the predicted one?",
        ),
    ] = False,
    force: Force = False,
) -> None:
    """Score a bundle with the code that serves it; prints one JSON line per label space."""
    with errors(), tempfile.TemporaryDirectory(prefix="demonstrations-") as index:
        from service.decoding.bundle import load_bundle
        from service.demonstrations.corpus import read_demonstrations
        from service.outputs import check_file
        from service.recognition.supported import check_forecasts, supported_label_space
        from service.settings import load_settings
        from training.datasets.leakage import lines_among
        from training.datasets.reading import read_all_named
        from training.evaluation.evaluate import evaluate as evaluate_bundle
        from training.evaluation.free_decoding import open_speaker, with_spoken
        from training.evaluation.questions import by_label_space, check_labelled
        from training.evaluation.scores import keep, recordable, score

        # Check what can be scored and recorded before anything is started.
        if task == "prediction" and (label_orders or free_decode):
            raise ValueError(
                "--task prediction cannot be combined with --label-orders or --free-decode"
            )
        if demonstrations_file is not None and not demonstrations:
            raise ValueError("--demonstrations-file has no effect with --no-demonstrations")
        settings = load_settings().model_copy(update={"bundle": bundle})
        if demonstrations_file is not None:
            shown = settings.demonstrations.model_copy(update={"file": demonstrations_file})
            settings = settings.model_copy(update={"demonstrations": shown})
        spaces = load_label_spaces(settings.data / "label_spaces")
        shown_from = [settings.demonstrations_file] if demonstrations else []
        corpora = read_all_named(corpus, spaces, shown_from)
        if predictions is not None:
            reads = [bundle, settings.data / "label_spaces", settings.demonstrations_file]
            reads += [*(record or ()), *(read.path for read in corpora)]
            check_file(predictions, reads, force=force)
        for read in corpora:
            check_labelled(read, task)
        loaded = load_bundle(bundle, spaces)
        if task == "prediction":
            check_forecasts(loaded)
        trained = loaded.label_spaces
        labelled = by_label_space(corpora, trained, spaces[UNIFIED] if unified else None)
        for space, _ in labelled:
            supported_label_space(loaded, spaces, space.name)
        if demonstrations and task == "main":
            asked = {space.name for space, _ in labelled}
            held = read_demonstrations(settings.demonstrations_file, spaces)
            texts = [d.text for d in held if d.label_space in asked]
            if among := lines_among(texts, corpora):
                say_aside(
                    f"{among} of {len(texts)} demonstrations are utterances of the scored corpora "
                    "and give their labels away (`data demonstrations --held-out` excludes such "
                    "dialogues)"
                )
        for folder in record or ():
            recordable(folder, [space.name for space, _ in labelled])
        results = asyncio.run(
            evaluate_bundle(
                settings,
                labelled,
                Path(index),
                demonstrations,
                say_aside,
                task=task,
                label_orders=label_orders,
                prompts=free_decode,
            )
        )
        raw = [result.predictions for result in results]
        for one in raw:
            if truncated := sum(answer.truncated for answer in one.answers):
                say_aside(
                    f"{one.label_space}: {truncated} of {len(one.answers)} utterances are too "
                    "long for the model, which reads only their ends"
                )
        if free_decode:
            say_aside("letting the model generate")
            speak = open_speaker(bundle, settings.engine.dtype)
            words = [trained[one.label_space].verbalizers for one in raw]
            raw = [
                with_spoken(one, speak(result.prompts, [*own.values()]), own)
                for one, result, own in zip(raw, results, words, strict=True)
            ]
        scores = [score(one, trained[one.label_space], calibration, task) for one in raw]
        for each in scores:
            say(json.dumps(each.to_json()))
        keep(raw, scores, record or (), predictions)


def baselines(
    train: Annotated[str, typer.Option(help="Corpus to learn from, as FORMAT:PATH.")],
    corpus: Annotated[str, typer.Option(help="Corpus to predict, as FORMAT:PATH.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the predictions of each baseline, as JSONL.")
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Baseline to run: majority, copied, neighbours, classifier, speaker-states or "
            "turn-graph; repeatable."
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Seed of speaker-states and turn-graph; repeatable. By default 1, 2 and 3.",
        ),
    ] = None,
    out_of_fold: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the predictions of speaker-states and turn-graph on the training "
            "split as well, each dialogue by a model fitted on other dialogues; takes five times "
            "as long."
        ),
    ] = None,
    force: Force = False,
    label_data: LabelData = DATA,
) -> None:
    """Predict without a language model, from the majority label to small discriminative models.

    emotion-neighbours, speaker-states and turn-graph learn from the sentence encoder's vectors,
    which takes a minute or two for each seed, and write NAME@SEED.jsonl; `report` combines the
    seeds of one baseline.
    """
    from service.outputs import check_files
    from training.datasets.reading import read_all_named
    from training.discriminative.kinds import KINDS
    from training.evaluation.baselines import NAMES, SEEDS, runs
    from training.evaluation.baselines import baselines as baseline_answers
    from training.evaluation.baselines import out_of_fold as answers_out_of_fold
    from training.evaluation.predictions import write_predictions
    from training.evaluation.questions import check_labelled
    from training.mixture.classifier import encode_split

    with errors():
        chosen, seeds = tuple(only or NAMES), tuple(seed or SEEDS)
        named = runs(chosen, seeds)
        learnt = [name for name in chosen if name in KINDS]
        if out_of_fold is not None and not learnt:
            raise ValueError(f"--out-of-fold needs {' or '.join(KINDS)} in --only")
        spaces = load_label_spaces(label_data / "label_spaces")
        known, asked = read_all_named([train, corpus], spaces)
        space = known.label_space
        for read in (known, asked):
            check_labelled(read)
        if known.path.resolve() == asked.path.resolve():
            raise ValueError(f"{corpus}: is also what the baselines learn from; name another split")
        if asked.label_space.name != space.name:
            raise ValueError(
                f"{train} has labels of {space.name}, but {corpus} of {asked.label_space.name}"
            )
        reads = (known.path, asked.path, label_data / "label_spaces")
        folders = [(out, named)]
        if out_of_fold is not None:
            if out_of_fold.resolve() == out.resolve():
                raise ValueError(
                    "--out-of-fold: is the folder of --out, in which the files have the same names"
                )
            folders.append((out_of_fold, runs(learnt, seeds)))
        for folder, names in folders:
            check_files(folder, (f"{name}.jsonl" for name in names), reads, force=force)
        from service.demonstrations.encoder import load_encoder

        encode = load_encoder().encode_now
        say_aside("encoding; fitting takes a minute or two for each learned baseline and seed")
        splits = [encode_split(c.dialogues, space, encode) for c in (known, asked)]
        answers = [(out, baseline_answers(splits[0], splits[1], space, chosen, seeds))]
        if out_of_fold is not None:
            answers.append((out_of_fold, answers_out_of_fold(splits[0], space, learnt, seeds)))
        for folder, by_name in answers:
            folder.mkdir(parents=True, exist_ok=True)
            for name, predictions in by_name:
                write_predictions([predictions], folder / f"{name}.jsonl")
                say(f"{folder / name}.jsonl: {len(predictions.answers)} utterances")


def trust(
    corpus: Annotated[
        list[str], typer.Option(help="Dialogues to fit on, as FORMAT:PATH; repeatable.")
    ],
    record: Annotated[
        list[Path] | None,
        typer.Option(help="Bundle or adapter to write the fit into; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw of utterances.")] = 0,
    label_data: LabelData = DATA,
) -> None:
    """Fit how much a person's correction weighs for utterances similar to the corrected one.

    Prints the fit and, as shares of pairs in held-out dialogues, how often a repeated utterance is
    missed and how often another one is mistaken for it.
    """
    from training.datasets.reading import read_all_named
    from training.evaluation.scores import recordable
    from training.evaluation.trust import fit_trust, record_trust

    with errors():
        read = read_all_named(corpus, load_label_spaces(label_data / "label_spaces"))
        for folder in record or ():
            recordable(folder, ())
        from service.demonstrations.encoder import load_encoder

        say_aside("encoding takes a minute or two")
        dialogues = [dialogue for one in read for dialogue in one.dialogues]
        fit = fit_trust(dialogues, load_encoder().encode_now, seed)
        for folder in record or ():
            record_trust(fit.trust, folder)
        shares = {"missed": round(fit.missed, 4), "mistaken": round(fit.mistaken, 4)}
        say(json.dumps(asdict(fit.trust) | shares))


def compare(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            help="Files from `evaluate --predictions`; the first is compared with each other one."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="File for all measures, as JSON.")] = None,
    force: Force = False,
) -> None:
    """Measure predictions, with 95% intervals, and the first file's lead over each other one.

    All measures are of uncalibrated predictions. Intervals and leads are of the measure by which
    the corpus is compared, in percent, from drawing dialogues with replacement.
    """
    from service.files import written_whole
    from service.outputs import check_file
    from training.evaluation.comparing import compared, markdown_tables
    from training.evaluation.predictions import names_of, read_predictions

    with errors():
        if out is not None:
            check_file(out, predictions, force=force)
        read = [read_predictions(path) for path in predictions]
        by_space = compared([*zip(names_of(predictions), read, strict=True)])
        if out is not None:
            with written_whole(out) as file:
                file.write(json.dumps(by_space, indent=1) + "\n")
    say(markdown_tables(by_space))


def report(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            help="Files from `evaluate --predictions` or `baselines`; NAME@SEED.jsonl, or "
            "NAME@SEED/test.jsonl as `run` writes it, are runs of one model."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="HTML file; all measures go into a .json file next to it.")
    ],
    fit: Annotated[
        list[Path] | None,
        typer.Option(
            help="Predictions of other utterances, such as a development split, under the same "
            "name, to fit calibrations on; repeatable. By default calibrations are cross-fitted "
            "by dialogue."
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write a page of tables and plots about models, and all measures as JSON.

    Measures are of uncalibrated predictions, next to what calibrations would make of them.
    """
    from service.files import written_whole
    from service.outputs import check_file
    from training.reporting.page import page
    from training.reporting.report import read_runs, reported

    with errors():
        if out.suffix == ".json":
            raise ValueError(f"{out}: is the file of the measures; give the page the suffix .html")
        measures = out.with_suffix(".json")
        for target in (out, measures):
            check_file(target, (*predictions, *(fit or ())), force=force)
        spaces = reported(read_runs(predictions, fit or ()))
        with written_whole(out) as html, written_whole(measures) as file:
            html.write(page(spaces))
            json.dump({space.label_space: space.to_json() for space in spaces}, file, indent=1)
    say(f"{out} and {measures} written")
