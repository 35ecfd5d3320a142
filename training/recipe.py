"""A recipe: everything that decides a training run, as `recipes/*.yaml` spells it."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from service.conversation.prompts import TEMPLATES
from service.decoding.bundle import Window


class Section(BaseModel):
    """Part of a recipe; a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CorpusFile(Section):
    """A corpus file, IEMOCAP's session or DailyDialog's split; relative to the data folder."""

    format: Literal["meld", "emorynlp", "goemotions", "iemocap", "dailydialog", "jsonl"]
    path: Path
    label_space: str | None = None  # of a jsonl file; the other formats have their own

    @model_validator(mode="after")
    def jsonl_names_its_label_space(self) -> Self:
        if (self.format == "jsonl") != (self.label_space is not None):
            raise ValueError("set label_space exactly when format is jsonl")
        return self


class Demonstrations(Section):
    """Which demonstrations a training prompt shows.

    Pairing is by any label: the nearest utterances, whatever their label, as in serving. The
    utterance itself and its dialogue are never among them.
    """

    count: Annotated[int, Field(ge=0)]
    # Of the utterances; the others train without, so that an answer stays good when retrieval
    # is away.
    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    # "train": the training corpora, as many utterances of each label; "shipped": the service's.
    pools: tuple[Literal["train", "shipped"], ...] = ("train",)


class Lora(Section):
    rank: PositiveInt
    alpha: PositiveInt
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    bias: Literal["none", "all", "lora_only"] = "none"
    # Modules trained and kept whole, such as layer norms.
    whole: tuple[str, ...] = ()


class Stage(Section):
    """Passes over some corpora."""

    name: str
    corpora: Annotated[tuple[CorpusFile, ...], Field(min_length=1)]
    # Of the dialogues; they train with unified labels besides the corpus's own.
    unified: Annotated[float, Field(ge=0, le=1)] = 0.0
    demonstrations: Demonstrations = Demonstrations(count=0)
    epochs: PositiveInt  # each draws its shares anew
    learning_rate: Annotated[float, Field(gt=0)]  # peak, after the warm-up
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.06  # share of the steps
    tokens_per_batch: PositiveInt = 4096
    # Weight of the language-model loss on random prompt tokens; turns an encoder causal.
    prompt_loss: Annotated[float, Field(ge=0)] = 0.0


class Recipe(Section):
    """One run."""

    name: str
    version: str
    base: str  # a folder, or a name that `instructerc-train base` builds
    template: str
    window: Window
    label_spaces: Annotated[tuple[str, ...], Field(min_length=1)]
    max_tokens: PositiveInt  # longest prompt with its target
    lora: Lora
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    development: tuple[CorpusFile, ...] = ()
    seed: int

    @model_validator(mode="after")
    def template_is_known(self) -> Self:
        if self.template not in TEMPLATES:
            raise ValueError(f"template {self.template!r} is not one of {', '.join(TEMPLATES)}")
        return self


class RecipeError(ValueError):
    """A recipe file that cannot be used; the message names the file and the key."""


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; a wrong key or type fails before weights are loaded.

    Raises:
        RecipeError: no such file, not YAML, or not a recipe.
    """
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {error}") from None
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors()
        )
        raise RecipeError(f"{path}: {problems}") from None
