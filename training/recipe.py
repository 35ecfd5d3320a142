"""A recipe: everything that decides a training run, as `recipes/*.yaml` spells it."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    model_validator,
)

from service.conversation.prompts import (
    TEMPLATES,
    PredictionTemplate,
    SpeakerTemplate,
    Template,
)
from service.decoding.bundle import Language, Window
from service.decoding.precision import Choice


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
    """The demonstrations that a training prompt shows.

    The nearest utterances of a pool; the utterance itself and its dialogue are never among them.
    """

    count: Annotated[int, Field(ge=0)]
    # Of the utterances; the others train without, so that an answer stays good when retrieval
    # is away.
    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    # "train": the training corpora; "shipped": the service's own.
    pools: Annotated[tuple[Literal["train", "shipped"], ...], Field(min_length=1)] = ("train",)
    # Any label, as in serving; the utterance's own ("same_label", as published: the answer is then
    # in the prompt, and what is learned is to copy it); or its own but for a share of the
    # utterances ("label_dropout").
    pairing: Literal["any_label", "same_label", "label_dropout"] = "any_label"
    dropout: Annotated[float, Field(ge=0, le=1)] | None = None  # that share
    balanced: bool = True  # the "train" pool has as many utterances of each label
    same_text: bool = True  # whether one may say the utterance's own words

    @model_validator(mode="after")
    def dropout_goes_with_label_dropout(self) -> Self:
        if (self.pairing == "label_dropout") != (self.dropout is not None):
            raise ValueError("set dropout exactly when pairing is label_dropout")
        return self

    @property
    def shown(self) -> int:
        """How many a prompt that shows some shows; 0 where none does."""
        return self.count if self.share else 0


class Lora(Section):
    rank: PositiveInt
    alpha: PositiveInt
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    bias: Literal["none", "all", "lora_only"] = "none"
    # Modules trained and kept whole, such as layer norms.
    whole: tuple[str, ...] = ()
    # Data type of the finished adapter; training itself keeps float32. bfloat16 halves the file.
    stored_as: Literal["float32", "bfloat16"] = "float32"


class Tasks(Section):
    """The weight of each task's loss; a task of weight 0 is left out.

    With `{main: 1, prediction: 0.1}` the loss is L_main + 0.1 L_pred, with `{main: 0, speaker: 1}`
    a stage learns who speaks and nothing else (InstructERC, arXiv 2309.11911, section 3).
    """

    main: Annotated[float, Field(ge=0)] = 1.0
    speaker: Annotated[float, Field(ge=0)] = 0.0
    prediction: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def one_is_trained(self) -> Self:
        if not (self.main or self.speaker or self.prediction):
            raise ValueError("one task needs a weight above 0")
        return self


def tasks_of(template: Template) -> tuple[str, ...]:
    """The tasks that a template has."""
    has = {
        "main": True,
        "speaker": isinstance(template, SpeakerTemplate),
        "prediction": isinstance(template, PredictionTemplate),
    }
    return tuple(task for task, there in has.items() if there)


class Sample(Section):
    """A share of the labelled utterances, drawn once; of the others the text alone is known."""

    share: Annotated[float, Field(gt=0, le=1)]
    # Of each corpus as much ("ratio mix"), or of all corpora together ("total mix").
    of: Literal["each", "all"] = "each"


class PseudoLabels(Section):
    """The predictions of a teacher for the corpora in each other's label spaces.

    The teacher is an earlier stage, whose runs predict together, or a trained model. Only the main
    task is trained on its predictions.
    """

    teacher: str | None = None  # the stage
    bundle: str | None = None  # the model's name; its folder is given beside the recipe
    share: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the dialogues, in each epoch

    @model_validator(mode="after")
    def has_one_teacher(self) -> Self:
        if (self.teacher is None) == (self.bundle is None):
            raise ValueError("needs either teacher, an earlier stage, or bundle, a trained model")
        return self


class Stage(Section):
    """Passes over some corpora."""

    name: Annotated[str, Field(pattern=r"^[\w-]+$")]  # of a folder, too
    corpora: Annotated[tuple[CorpusFile, ...], Field(min_length=1)]
    tasks: Tasks = Tasks()
    # Of the dialogues; those that train with their corpus's own labels, and with unified ones.
    own: Annotated[float, Field(ge=0, le=1)] = 1.0
    unified: Annotated[float, Field(ge=0, le=1)] = 0.0
    sample: Sample = Sample(share=1.0)
    demonstrations: Demonstrations = Demonstrations(count=0)
    epochs: PositiveInt  # each draws its shares anew
    learning_rate: Annotated[float, Field(gt=0)]  # peak, after the warm-up
    schedule: Literal["linear", "cosine"] = "linear"
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the peak that a cosine ends at
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.06  # share of the steps
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # of all but biases and norms
    tokens_per_batch: PositiveInt = 4096  # on each device
    batches_per_step: PositiveInt = 1
    # Weights after the last epoch, or after the one that did best on the development split, asked
    # as it was trained: the main task, with demonstrations where every prompt shows some, without
    # where none does, both ways elsewhere.
    keep: Literal["last", "best"] = "last"
    # Of the steps, at the end, whose weights' mean is what is kept; refused where they are sharded.
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    # How often the stage is run, each time with another seed; kept is the mean of their weights.
    runs: PositiveInt = 1
    # Of that mean, the share of the weights that the stage began with: less is learned, and less of
    # what the stages before taught is lost (Wortsman et al. 2022, arXiv 2109.01903, section 3).
    start_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    # Of the base's hidden states, the share that is set to 0; null: what the base itself says.
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    # Of each target of the main task, the share that is not its label but what a classifier, which
    # was fitted on other dialogues, makes of the utterance.
    distillation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    pseudo_labels: PseudoLabels | None = None
    # By label space: a label counts in proportion to its frequency to the power of minus this, 1 in
    # the mean. 0: every utterance alike; 1: every label alike.
    balance: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    # Weight of the language-model loss on random prompt tokens; turns an encoder causal.
    prompt_loss: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def a_floor_is_a_cosines(self) -> Self:
        if self.floor and self.schedule != "cosine":
            raise ValueError("floor: has no effect with schedule: linear, which ends at 0")
        return self

    @model_validator(mode="after")
    def the_mean_is_of_the_last_steps(self) -> Self:
        if self.average and self.keep == "best":
            raise ValueError(
                "average: averages the last steps, so it cannot be combined with keep: best"
            )
        return self


class Recipe(Section):
    """One run."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]  # of a folder, too
    version: str
    base: str  # one that `instructerc-train base` builds, or the hub's name of one to download
    template: str
    window: Window
    label_spaces: Annotated[tuple[str, ...], Field(min_length=1)]
    # Of the corpora; the service marks its answers to text in other ones.
    languages: tuple[Language, ...] = ("en",)
    max_tokens: PositiveInt  # longest prompt with its target
    lora: Lora | None  # null: all parameters are trained
    # None leaves the base as it is: zero-shot.
    stages: tuple[Stage, ...]
    development: tuple[CorpusFile, ...] = ()
    test: tuple[CorpusFile, ...] = ()  # read once, when everything has been chosen
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the base's weights
    # What is computed in; "auto": bfloat16 where the machine multiplies that, else float32, in
    # which the weights are held then, too.
    compute: Choice = "auto"
    # Computes activations again in the backward pass. It takes half more operations where the base
    # is frozen (6 in place of 4 for each number and token), a third where all is trained (8 in
    # place of 6); Llama-2-7B, at 4,096 tokens a batch, takes 17 GB in place of 50. null: where the
    # GPU has no room without (`training.finetuning.memory`).
    gradient_checkpointing: bool | None = None
    seed: int

    def corpora(self) -> tuple[CorpusFile, ...]:
        """What is trained on, and what epochs are scored on."""
        return (*(file for stage in self.stages for file in stage.corpora), *self.development)

    @property
    def teacher(self) -> str | None:
        """The name of the trained model whose predictions stages learn, if one does."""
        return next(iter(self._teachers()), None)

    def _teachers(self) -> set[str]:
        labels = [stage.pseudo_labels for stage in self.stages]
        return {each.bundle for each in labels if each and each.bundle}

    @property
    def forecasts(self) -> bool:
        """Whether a stage learns to forecast."""
        return any(stage.tasks.prediction for stage in self.stages)

    @model_validator(mode="after")
    def template_is_known(self) -> Self:
        if self.template not in TEMPLATES:
            raise ValueError(f"template {self.template!r} is not one of {', '.join(TEMPLATES)}")
        return self

    @model_validator(mode="after")
    def first_stage_begins_with_no_weights(self) -> Self:
        if self.stages and self.stages[0].start_share:
            raise ValueError(
                f"stage {self.stages[0].name}: start_share: no stage before it has left weights"
            )
        return self

    @model_validator(mode="after")
    def stages_have_names_of_their_own(self) -> Self:
        names = [stage.name for stage in self.stages]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"stages: {', '.join(sorted(repeated))} appears twice")
        return self

    @model_validator(mode="after")
    def template_has_a_place_for_what_is_shown(self) -> Self:
        takes = TEMPLATES[self.template].takes_demonstrations
        if not takes and any(stage.demonstrations.count for stage in self.stages):
            raise ValueError(f"template {self.template} has no place for demonstrations")
        return self

    @model_validator(mode="after")
    def best_is_told_on_a_development_split(self) -> Self:
        if not self.development and any(stage.keep == "best" for stage in self.stages):
            raise ValueError("keep: best needs a development split to choose by")
        return self

    @model_validator(mode="after")
    def teachers_are_trained_before(self) -> Self:
        for place, stage in enumerate(self.stages):
            before = [earlier.name for earlier in self.stages[:place]]
            teacher = stage.pseudo_labels and stage.pseudo_labels.teacher
            if teacher and teacher not in before:
                raise ValueError(
                    f"stage {stage.name}: pseudo_labels: {teacher} is not an earlier stage"
                )
        return self

    @model_validator(mode="after")
    def teachers_outside_are_one(self) -> Self:
        if len(names := self._teachers()) > 1:
            raise ValueError(
                f"stages: have several bundles as teachers: {', '.join(sorted(names))}"
            )
        return self

    @model_validator(mode="after")
    def template_has_the_tasks(self) -> Self:
        known = tasks_of(TEMPLATES[self.template])
        asked = [name for s in self.stages for name, weight in s.tasks if weight]
        if unknown := set(asked) - set(known):
            raise ValueError(f"template {self.template} has no {', '.join(sorted(unknown))} task")
        return self


def is_one_run(one: Recipe, other: Recipe) -> bool:
    """Whether recipes are the same but for what they compute in, which a run's record settles, and
    for what is computed again, which changes no number.
    """
    same = {key: getattr(other, key) for key in ("compute", "gradient_checkpointing")}
    return one.model_copy(update=same) == other


class RecipeError(ValueError):
    """A recipe file that cannot be used; the message names the file and the key."""
