"""Fingerprints of a run's inputs: a run goes on only where they are the same."""

import hashlib
from collections.abc import Sequence

from service.decoding.bundle import Bundle
from service.demonstrations.corpus import edition_of
from training.datasets.fingerprint import fingerprint
from training.datasets.reading import Corpus
from training.mixture.pools import SHIPPED_POOL
from training.mixture.sources import Sources
from training.recipe import Recipe, Stage


def material_of(
    recipe: Recipe,
    bundle: Bundle,
    stages: Sequence[tuple[Stage, Sequence[Corpus]]],
    sources: Sources,
) -> dict[str, str | int]:
    """Fingerprints, by name, of the inputs that decide what stages learn.

    Args:
        bundle: says which base, encoder and corpus files.
        stages: with the corpora that they train on.
    """
    labels = repr([sources.label_spaces[name] for name in recipe.label_spaces])
    material: dict[str, str | int] = {
        "base": bundle.base.revision,
        "encoder": bundle.encoder,
        "labels": hashlib.sha256(labels.encode()).hexdigest(),
    }
    for file in recipe.development:
        material[f"contents of {file.path.as_posix()}"] = fingerprint(sources.data / file.path)
    for stage, corpora in stages:
        if stage.demonstrations.shown and SHIPPED_POOL in stage.demonstrations.pools:
            material["shipped demonstrations"] = edition_of(sources.shipped, bundle.encoder)
        for file, corpus in zip(stage.corpora, corpora, strict=True):
            name = file.path.as_posix()
            material[f"contents of {name}"] = bundle.data[name]
            # Which are left out depends on the splits that are held out.
            material[f"number of training dialogues in {name}"] = len(corpus.dialogues)
    return material
