"""Describes, for `bundle.json`, the bundle that a merge makes of a run."""

from collections import Counter
from collections.abc import Sequence

from service.decoding.bundle import Base, Bundle, Window, trained_labels
from service.version import VERSION
from training.datasets.fingerprint import fingerprint
from training.datasets.reading import Corpus
from training.datasets.relabelling import in_label_space
from training.mixture.mixing import trained_spaces
from training.mixture.sources import Sources
from training.recipe import Recipe, Stage


def bundle_of(
    recipe: Recipe,
    revision: str,
    sources: Sources,
    stages: Sequence[tuple[Stage, Sequence[Corpus]]],
) -> Bundle:
    """Describe the bundle of a run.

    Args:
        revision: of the base.
        stages: each with the corpora it trains on.
    """
    shares = _label_shares(stages, sources)
    files = {f.path for stage in recipe.stages for f in stage.corpora}
    return Bundle(
        format=1,
        name=recipe.name,
        version=recipe.version,
        base=Base(name=recipe.base, revision=revision),
        template=recipe.template,
        window=Window(lowest=recipe.window.lowest, highest=recipe.window.highest),
        max_tokens=recipe.max_tokens,
        demonstrations=recipe.stages[-1].demonstrations.shown if recipe.stages else 0,
        tasks=("main", "prediction") if recipe.forecasts else ("main",),
        languages=recipe.languages,
        label_spaces={
            name: trained_labels(sources.label_spaces[name]).model_copy(
                update={"trained": shares.get(name, {})}
            )
            for name in recipe.label_spaces
        },
        encoder=sources.encoder,
        data={path.as_posix(): fingerprint(sources.data / path) for path in sorted(files)},
        code_version=VERSION,
    )


def _label_shares(
    stages: Sequence[tuple[Stage, Sequence[Corpus]]], sources: Sources
) -> dict[str, dict[str, float]]:
    """By label space, each label's share of the utterances of the last stage that trains it."""
    shares: dict[str, dict[str, float]] = {}
    for stage, corpora in stages:
        counts: dict[str, Counter[str]] = {}
        for corpus in corpora:
            for space, _ in trained_spaces(corpus, stage, sources):
                of_space = counts.setdefault(space.name, Counter(dict.fromkeys(space.names, 0)))
                of_space.update(
                    space.label(utterance.label).name
                    for dialogue in in_label_space(corpus, space)
                    for utterance in dialogue.utterances
                    if utterance.label is not None
                )
        shares |= {
            name: {label: round(count / of_space.total(), 4) for label, count in of_space.items()}
            for name, of_space in counts.items()
            if of_space.total()
        }
    return shares
