"""Describes, for `bundle.json`, the bundle that a merge makes of a run."""

from service.decoding.bundle import Base, Bundle, Window, trained_labels
from service.version import VERSION
from training.datasets.fingerprint import fingerprint
from training.mixture.sources import Sources
from training.recipe import Recipe


def bundle_of(recipe: Recipe, revision: str, sources: Sources) -> Bundle:
    predicts = any(stage.tasks.prediction for stage in recipe.stages)
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
        tasks=("main", "prediction") if predicts else ("main",),
        languages=recipe.languages,
        label_spaces={n: trained_labels(sources.label_spaces[n]) for n in recipe.label_spaces},
        encoder=sources.encoder,
        data={path.as_posix(): fingerprint(sources.data / path) for path in sorted(files)},
        code_version=VERSION,
    )
