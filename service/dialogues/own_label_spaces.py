"""Label spaces of tenants: stored, fitted, and found by every process.

What was put lies in the database with what was made of it, so that every process answers alike. A
process asks which edition there is whenever a label space is named: a change is seen at once.
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
from service.conversation import few_shot
from service.conversation.derived import DerivedLabelSpace, derive
from service.conversation.dialogue import Line
from service.conversation.few_shot import FewShot, LeftOut
from service.conversation.labels import UNIFIED, LabelSpace, LabelSpaceError
from service.demonstrations.encoder import Encoder
from service.dialogues.locks import NamedLocks
from service.errors import InvalidLabelSpace, LabelsNotApart, LabelSpaceShipped
from service.priority import Priority
from service.recognition.own import OwnLabel, OwnLabels, OwnLabelSpace
from service.recognition.pipeline import Recognizer, supported_label_space
from service.sessions.label_spaces import (
    StoredLabelSpace,
    StoredLabelSpaces,
    too_many_label_spaces,
)
from service.side_by_side import together

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"
"""What a label space of a tenant's own may be called."""

# Of one tenant; each is some tens of kilobytes.
MOST_LABEL_SPACES = 50
# In memory, of all tenants.
_KEPT = 200


@dataclass(frozen=True, slots=True)
class Put:
    """A label space as it was put.

    Attributes:
        left_out: what its examples were taken for while they were left out; None: it has none.
    """

    label_space: OwnLabelSpace | DerivedLabelSpace
    left_out: LeftOut | None


@dataclass(frozen=True, slots=True)
class _Kept:
    mark: str
    label_space: OwnLabelSpace | DerivedLabelSpace


@dataclass(frozen=True, slots=True)
class OwnLabelSpaces:
    """Tenants' own label spaces.

    Attributes:
        shipped: the names that nobody may take.
    """

    recognizer: Recognizer
    encoder: Encoder
    stored: StoredLabelSpaces
    shipped: frozenset[str]
    places: Places
    locks: NamedLocks = field(default_factory=NamedLocks)
    _kept: LRUCache[tuple[str, str], _Kept] = field(default_factory=lambda: LRUCache(_KEPT))

    async def put_examples(
        self, tenant: str, name: str, title: str, labels: Sequence[OwnLabel]
    ) -> Put:
        """Keep labels with a sentence and examples each, in place of what had this name.

        Raises:
            LabelSpaceShipped: the name is taken.
            InvalidLabelSpace: an example is there twice.
            LabelsNotApart: the examples do not tell the labels apart; nothing is kept.
            TooManyLabelSpaces: the tenant has as many as it may.
            Overloaded, EngineUnavailable, DemonstrationsUnavailable, DatabaseUnavailable: a part
                does not answer; nothing is kept.
        """
        self._check_name(name)
        _check_examples(labels)
        names = await self.names(tenant)  # before examples are read, which takes long
        if name not in names and len(names) >= MOST_LABEL_SPACES:
            raise too_many_label_spaces(MOST_LABEL_SPACES)
        classifier, found, gold = await self._fit(tenant, labels)
        fault = few_shot.why_not_apart(found, gold, [label.name for label in labels])
        if fault is not None:
            raise LabelsNotApart(fault)
        space = OwnLabelSpace(name, title, tuple(labels), self._source, classifier)
        definition = {
            "title": title,
            "labels": [
                {"name": each.name, "sentence": each.sentence, "examples": each.examples}
                for each in labels
            ],
        }
        await self._put(tenant, space, definition, self._model, _fitted(classifier))
        return Put(space, few_shot.left_out(found, gold))

    async def put_sums(
        self,
        tenant: str,
        name: str,
        title: str,
        source: str,
        sums: Mapping[str, Mapping[str, float]],
    ) -> Put:
        """Keep a derived label space, in place of what had this name.

        Raises:
            LabelSpaceShipped: the name is taken.
            UnsupportedLabelSpace: the bundle was not trained on the source.
            InvalidLabelSpace: the sums are not of every label of the source, each as a whole.
            TooManyLabelSpaces: the tenant has as many as it may.
            DatabaseUnavailable: nothing is kept.
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
            "labels": [{"name": each.name, "of": dict(each.of)} for each in space.labels],
        }
        await self._put(tenant, space, definition, None, None)
        return Put(space, None)

    async def find(self, tenant: str, name: str) -> OwnLabelSpace | DerivedLabelSpace | None:
        """A label space of a tenant's to answer in, by its name in lower case; None: it has none.

        Its labels have no text: `described` has it.

        Raises:
            DatabaseUnavailable: it cannot be looked up.
            EngineUnavailable, DemonstrationsUnavailable: its examples have to be fitted to another
                model first, and a part does not answer.
        """
        if not _may_be_called(name):
            return None
        mark = await self.stored.mark(tenant, name)
        if mark is None:
            return None
        kept = self._kept.get((tenant, name))
        if kept is not None and kept.mark == mark:
            return kept.label_space
        async with self.locks.of(tenant, name):
            kept = self._kept.get((tenant, name))
            if kept is not None and kept.mark == mark:
                return kept.label_space
            stored = await self.stored.find(tenant, name)
            if stored is None:
                return None
            space = await self._opened(tenant, stored)
            return None if space is None else self._keep(tenant, stored.mark, space)

    async def described(self, tenant: str, name: str) -> OwnLabels | DerivedLabelSpace | None:
        """A label space of a tenant's as it was put, by its name in lower case; None: it has none.

        Raises:
            DatabaseUnavailable: it cannot be looked up.
        """
        stored = await self.stored.find(tenant, name) if _may_be_called(name) else None
        return None if stored is None else self._described(stored)

    async def names(self, tenant: str) -> Sequence[str]:
        """What those that a tenant has are called, in order.

        Raises:
            DatabaseUnavailable: they cannot be looked up.
        """
        return await self.stored.names(tenant)

    async def all(self, tenant: str) -> list[OwnLabels | DerivedLabelSpace]:
        """Those that a tenant has, as they were put, by name.

        Raises:
            DatabaseUnavailable: they cannot be looked up.
        """
        found = [await self.described(tenant, name) for name in await self.names(tenant)]
        return [each for each in found if each is not None]

    async def delete(self, tenant: str, name: str) -> None:
        """Erase a label space, its examples and what was made of them.

        Raises:
            LabelSpaceShipped: it is everybody's.
            LabelSpaceNotFound: the tenant has none of this name.
            DatabaseUnavailable: it is still there.
        """
        self._check_name(name)
        self._kept.pop((tenant, name), None)
        await self.stored.delete(tenant, name)
        self._kept.pop((tenant, name), None)  # somebody may have asked for it meanwhile

    @property
    def _source(self) -> LabelSpace:
        """The label space in which the model is asked of lines and examples."""
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
        """Keep what answers need: no text, which another process may have been told to erase."""
        if isinstance(space, OwnLabelSpace):
            labels = tuple(replace(each, sentence="", examples=()) for each in space.labels)
            space = replace(space, labels=labels)
        self._kept[tenant, space.name] = _Kept(mark, space)
        return space

    def _described(self, stored: StoredLabelSpace) -> OwnLabels | DerivedLabelSpace | None:
        """What is stored; None: it is derived from a label space that there is no more."""
        said = orjson.loads(stored.definition)
        if "derived_from" in said:
            source = self.recognizer.label_spaces.get(said["derived_from"])
            sums = {each["name"]: each["of"] for each in said["labels"]}
            if source is None:
                return None
            try:
                return derive(stored.name, said["title"], source, sums)
            except LabelSpaceError:  # the source has other labels by now
                return None
        labels = tuple(
            OwnLabel(each["name"], each["sentence"], tuple(each["examples"]))
            for each in said["labels"]
        )
        return OwnLabels(stored.name, said["title"], labels, self._source)

    async def _opened(
        self, tenant: str, stored: StoredLabelSpace
    ) -> OwnLabelSpace | DerivedLabelSpace | None:
        """The same, with what was learnt from its examples, by the model that is served."""
        found = self._described(stored)
        if not isinstance(found, OwnLabels):
            return found
        if stored.fitted is not None and stored.fitted_for == self._model:
            classifier = _classifier(stored.fitted, len(found.labels))
        else:
            classifier, _, _ = await self._fit(tenant, found.labels)
            await self.stored.fit_again(tenant, stored, self._model, _fitted(classifier))
        return OwnLabelSpace(found.name, found.title, found.labels, found.source, classifier)

    async def _fit(
        self, tenant: str, labels: Sequence[OwnLabel]
    ) -> tuple[FewShot, few_shot.Floats, few_shot.Places]:
        """Ask model and encoder about every example, and learn the labels from that."""
        examples = [text for label in labels for text in label.examples]
        gold = np.repeat(np.arange(len(labels)), [len(label.examples) for label in labels])
        known, sentences = await together(
            together(*(self._features(tenant, text) for text in examples)),
            together(*(self.encoder.encode(each.sentence, Priority.BATCH) for each in labels)),
        )
        size = len(self._source.labels)
        described = np.stack([few_shot.of_sentence(each, size) for each in sentences])
        classifier, found = await asyncio.to_thread(few_shot.fit, np.stack(known), gold, described)
        return classifier, found, gold

    async def _features(self, tenant: str, text: str) -> few_shot.Floats:
        async with self.places.of(Priority.BATCH, tenant):
            vector, read = await together(
                self.encoder.encode(text, Priority.BATCH),
                self.recognizer.recognize(
                    [Line(0, text)],
                    self._source,
                    tenant=tenant,
                    priority=Priority.BATCH,
                    corrected=False,
                ),
            )
        return few_shot.features(vector, read.prediction.probabilities)


def _may_be_called(name: str) -> bool:
    """Whether a label space may have been put by a name: not every database looks for any other."""
    return re.fullmatch(NAME_PATTERN, name) is not None


def _check_examples(labels: Sequence[OwnLabel]) -> None:
    seen: dict[str, str] = {}
    for label in labels:
        for number, text in enumerate(label.examples, 1):
            said = " ".join(text.casefold().split())
            if said in seen:
                raise InvalidLabelSpace(
                    f"example {number} of {label.name!r} says the same as one of {seen[said]!r}"
                )
            seen[said] = label.name


def _fitted(classifier: FewShot) -> str:
    weights = base64.b64encode(np.ascontiguousarray(classifier.weights, "<f8").tobytes())
    return orjson.dumps({"scale": classifier.scale, "weights": weights.decode()}).decode()


def _classifier(fitted: str, labels: int) -> FewShot:
    said = orjson.loads(fitted)
    weights = np.frombuffer(base64.b64decode(said["weights"]), "<f8").reshape(-1, labels)
    return FewShot(weights.astype(np.float64), said["scale"])
