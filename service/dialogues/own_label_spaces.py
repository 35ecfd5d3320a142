"""Label spaces of tenants: stored, fitted, and available to every process.

The database stores a definition with what was fitted to it, so that every process predicts the
same. A process checks the current edition whenever a label space is named: changes apply at once.
"""

import asyncio
import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson
from cachetools import LRUCache

from service.admission.places import Places
from service.concurrency import NamedLocks, together
from service.conversation import few_shot
from service.conversation.derived import DerivedLabelSpace, derive
from service.conversation.dialogue import Line
from service.conversation.few_shot import FewShot, LeftOut, OwnLabel, OwnLabels, OwnLabelSpace
from service.conversation.labels import UNIFIED, LabelSpace, LabelSpaceError
from service.demonstrations.encoder import Encoder
from service.errors import InvalidLabelSpace, LabelsNotApart, LabelSpaceShipped
from service.priority import Priority
from service.recognition.pipeline import Recognizer
from service.recognition.supported import supported_label_space
from service.sessions.label_spaces import (
    StoredLabelSpace,
    StoredLabelSpaces,
    too_many_label_spaces,
)

OWN_LABEL_SPACE_NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"
"""The names that a tenant's own label space may have."""

# Per tenant; each takes some tens of kilobytes.
MOST_LABEL_SPACES = 50
# In memory, over all tenants.
_CACHED = 200


@dataclass(frozen=True, slots=True)
class Put:
    """A label space that was stored.

    Attributes:
        left_out: how its examples were recognized while left out; None: it has no examples.
    """

    label_space: OwnLabelSpace | DerivedLabelSpace
    left_out: LeftOut | None


@dataclass(frozen=True, slots=True)
class _Cached:
    mark: str
    label_space: OwnLabelSpace | DerivedLabelSpace


@dataclass(frozen=True, slots=True)
class OwnLabelSpaces:
    """Tenants' own label spaces.

    Attributes:
        shipped: the names of shipped label spaces, which tenants cannot use.
    """

    recognizer: Recognizer
    encoder: Encoder
    stored: StoredLabelSpaces
    shipped: frozenset[str]
    places: Places
    locks: NamedLocks = field(default_factory=NamedLocks)
    _cache: LRUCache[tuple[str, str], _Cached] = field(default_factory=lambda: LRUCache(_CACHED))

    async def put_examples(
        self, tenant: str, name: str, title: str, labels: Sequence[OwnLabel]
    ) -> Put:
        """Create or replace a label space of labels with a sentence and examples each.

        Raises:
            LabelSpaceShipped: the name belongs to a shipped label space.
            InvalidLabelSpace: an example occurs twice.
            LabelsNotApart: the examples do not tell the labels apart; nothing is stored.
            TooManyLabelSpaces: the tenant has reached its limit.
            Overloaded, EngineUnavailable, DemonstrationsUnavailable, DatabaseUnavailable: a part
                is unavailable; nothing is stored.
        """
        self._check_name(name)
        _check_examples(labels)
        names = await self.names(tenant)  # before the slow reading of examples
        if name not in names and len(names) >= MOST_LABEL_SPACES:
            raise too_many_label_spaces(MOST_LABEL_SPACES)
        classifier, predicted, gold = await self._fit(tenant, labels)
        fault = few_shot.why_not_apart(predicted, gold, [label.name for label in labels])
        if fault is not None:
            raise LabelsNotApart(fault)
        space = OwnLabelSpace(name, title, tuple(labels), self._source, classifier)
        definition = {
            "title": title,
            "labels": [
                {"name": label.name, "sentence": label.sentence, "examples": label.examples}
                for label in labels
            ],
        }
        await self._put(tenant, space, definition, self._model, _fitted(classifier))
        return Put(space, few_shot.left_out(predicted, gold))

    async def put_sums(
        self,
        tenant: str,
        name: str,
        title: str,
        source: str,
        sums: Mapping[str, Mapping[str, float]],
    ) -> Put:
        """Create or replace a derived label space.

        Raises:
            LabelSpaceShipped: the name belongs to a shipped label space.
            UnsupportedLabelSpace: the bundle was not trained on the source.
            InvalidLabelSpace: the sums do not distribute every label of the source completely.
            TooManyLabelSpaces: the tenant has reached its limit.
            DatabaseUnavailable: nothing is stored.
        """
        self._check_name(name)
        trained = supported_label_space(
            self.recognizer.bundle, self.recognizer.label_spaces, source
        )
        try:
            space = derive(name, title, trained, sums)
        except LabelSpaceError as error:
            raise InvalidLabelSpace(str(error)) from None
        definition = {
            "title": title,
            "derived_from": trained.name,
            "labels": [{"name": label.name, "of": dict(label.of)} for label in space.labels],
        }
        await self._put(tenant, space, definition, None, None)
        return Put(space, None)

    async def find(self, tenant: str, name: str) -> OwnLabelSpace | DerivedLabelSpace | None:
        """A tenant's label space for predictions, by its name in lower case; None: there is none.

        Its labels have no sentences and examples; `described` returns these.

        Raises:
            DatabaseUnavailable: it cannot be looked up.
            EngineUnavailable, DemonstrationsUnavailable: the model has changed, so the examples
                must be fitted again, and a part is unavailable.
        """
        if not _may_be_called(name):
            return None
        mark = await self.stored.mark(tenant, name)
        if mark is None:
            return None
        cached = self._cache.get((tenant, name))
        if cached is not None and cached.mark == mark:
            return cached.label_space
        async with self.locks.of(tenant, name):
            cached = self._cache.get((tenant, name))
            if cached is not None and cached.mark == mark:
                return cached.label_space
            stored = await self.stored.find(tenant, name)
            if stored is None:
                return None
            space = await self._opened(tenant, stored)
            return None if space is None else self._keep(tenant, stored.mark, space)

    async def described(self, tenant: str, name: str) -> OwnLabels | DerivedLabelSpace | None:
        """A tenant's label space as defined, by its name in lower case; None: there is none.

        Raises:
            DatabaseUnavailable: it cannot be looked up.
        """
        stored = await self.stored.find(tenant, name) if _may_be_called(name) else None
        return None if stored is None else self._described(stored)

    async def names(self, tenant: str) -> Sequence[str]:
        """The names of a tenant's label spaces, in order.

        Raises:
            DatabaseUnavailable: they cannot be looked up.
        """
        return await self.stored.names(tenant)

    async def all(self, tenant: str) -> list[OwnLabels | DerivedLabelSpace]:
        """A tenant's label spaces as defined, in order of their names.

        Raises:
            DatabaseUnavailable: they cannot be looked up.
        """
        spaces = [await self.described(tenant, name) for name in await self.names(tenant)]
        return [space for space in spaces if space is not None]

    async def delete(self, tenant: str, name: str) -> None:
        """Erase a label space, its examples and what was fitted to them.

        Raises:
            LabelSpaceShipped: the name belongs to a shipped label space.
            LabelSpaceNotFound: the tenant has no label space with this name.
            DatabaseUnavailable: it is still there.
        """
        self._check_name(name)
        self._cache.pop((tenant, name), None)
        await self.stored.delete(tenant, name)
        self._cache.pop((tenant, name), None)  # a request may have cached it meanwhile

    @property
    def _source(self) -> LabelSpace:
        """The label space in which the model reads lines and examples."""
        names = self.recognizer.bundle.label_spaces
        return self.recognizer.label_spaces[UNIFIED if UNIFIED in names else next(iter(names))]

    @property
    def _model(self) -> str:
        bundle = self.recognizer.bundle
        return f"{bundle.name} {bundle.version} {self.encoder.identity} {few_shot.VERSION}"

    def _check_name(self, name: str) -> None:
        if name in self.shipped:
            raise LabelSpaceShipped(f"label space {name!r} ships with the service")

    async def _put(
        self,
        tenant: str,
        space: OwnLabelSpace | DerivedLabelSpace,
        definition: Mapping[str, Any],
        fitted_for: str | None,
        fitted: str | None,
    ) -> None:
        text = orjson.dumps(definition).decode()
        stored = await self.stored.put(
            tenant, space.name, text, fitted_for, fitted, most=MOST_LABEL_SPACES
        )
        self._keep(tenant, stored.mark, space)

    def _keep(
        self, tenant: str, mark: str, space: OwnLabelSpace | DerivedLabelSpace
    ) -> OwnLabelSpace | DerivedLabelSpace:
        """Cache a label space without its texts, which another process may be asked to erase."""
        if isinstance(space, OwnLabelSpace):
            labels = tuple(replace(label, sentence="", examples=()) for label in space.labels)
            space = replace(space, labels=labels)
        self._cache[tenant, space.name] = _Cached(mark, space)
        return space

    def _described(self, stored: StoredLabelSpace) -> OwnLabels | DerivedLabelSpace | None:
        """The stored label space; None: the source that it is derived from no longer exists."""
        definition = orjson.loads(stored.definition)
        if "derived_from" in definition:
            source = self.recognizer.label_spaces.get(definition["derived_from"])
            sums = {label["name"]: label["of"] for label in definition["labels"]}
            if source is None:
                return None
            try:
                return derive(stored.name, definition["title"], source, sums)
            except LabelSpaceError:  # the labels of the source have changed
                return None
        labels = tuple(
            OwnLabel(label["name"], label["sentence"], tuple(label["examples"]))
            for label in definition["labels"]
        )
        return OwnLabels(stored.name, definition["title"], labels, self._source)

    async def _opened(
        self, tenant: str, stored: StoredLabelSpace
    ) -> OwnLabelSpace | DerivedLabelSpace | None:
        """The stored label space with its classifier, fitted to the served model."""
        space = self._described(stored)
        if not isinstance(space, OwnLabels):
            return space
        if stored.fitted is not None and stored.fitted_for == self._model:
            classifier = _classifier(stored.fitted, len(space.labels))
        else:
            classifier, _, _ = await self._fit(tenant, space.labels)
            await self.stored.fit_again(tenant, stored, self._model, _fitted(classifier))
        return OwnLabelSpace(space.name, space.title, space.labels, space.source, classifier)

    async def _fit(
        self, tenant: str, labels: Sequence[OwnLabel]
    ) -> tuple[FewShot, few_shot.Floats, few_shot.Places]:
        """Fit a classifier to the features of every example and sentence.

        Returns:
            The classifier; its scores of the examples, each left out in turn; their labels.
        """
        examples = [text for label in labels for text in label.examples]
        gold = np.repeat(np.arange(len(labels)), [len(label.examples) for label in labels])
        features, sentences = await together(
            together(*(self._features(tenant, text) for text in examples)),
            together(*(self.encoder.encode(label.sentence, Priority.BATCH) for label in labels)),
        )
        size = len(self._source.labels)
        described = np.stack([few_shot.of_sentence(vector, size) for vector in sentences])
        classifier, predicted = await asyncio.to_thread(
            few_shot.fit, np.stack(features), gold, described
        )
        return classifier, predicted, gold

    async def _features(self, tenant: str, text: str) -> few_shot.Floats:
        async with self.places.of(Priority.BATCH, tenant):
            vector, recognition = await together(
                self.encoder.encode(text, Priority.BATCH),
                self.recognizer.recognize(
                    [Line(0, text)],
                    self._source,
                    tenant=tenant,
                    priority=Priority.BATCH,
                    corrected=False,
                ),
            )
        return few_shot.features(vector, recognition.prediction.probabilities)


def _may_be_called(name: str) -> bool:
    """Whether a label space may have a name: not every database accepts others in a query."""
    return re.fullmatch(OWN_LABEL_SPACE_NAME_PATTERN, name) is not None


def _check_examples(labels: Sequence[OwnLabel]) -> None:
    labels_of: dict[str, str] = {}
    for label in labels:
        for number, text in enumerate(label.examples, 1):
            normalized = " ".join(text.casefold().split())
            if (other := labels_of.get(normalized)) is not None:
                raise InvalidLabelSpace(
                    f"example {number} of {label.name!r} is the same as one of {other!r}"
                )
            labels_of[normalized] = label.name


def _fitted(classifier: FewShot) -> str:
    weights = base64.b64encode(np.ascontiguousarray(classifier.weights, "<f8").tobytes())
    return orjson.dumps({"scale": classifier.scale, "weights": weights.decode()}).decode()


def _classifier(fitted: str, labels: int) -> FewShot:
    document = orjson.loads(fitted)
    weights = np.frombuffer(base64.b64decode(document["weights"]), "<f8").reshape(-1, labels)
    return FewShot(weights.astype(np.float64), document["scale"])
