"""The versions of a dialogue; a writer that expects one does not write over changes unseen."""

from dataclasses import dataclass

from service.errors import DialogueChanged


@dataclass(frozen=True, slots=True)
class Version:
    """A state of a dialogue; every write makes another one.

    Attributes:
        generation: tells the dialogue from others under the same id, before or after it.
        number: grows with every write.
    """

    generation: int
    number: int

    def __str__(self) -> str:
        return f"{self.generation:x}.{self.number}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a writer takes a dialogue to be.

    Attributes:
        versions: those that it may be, as text; None: any, so long as there is the dialogue.
    """

    versions: frozenset[str] | None

    def allows(self, version: Version) -> bool:
        """Whether a dialogue of this version is as expected."""
        return self.versions is None or str(version) in self.versions

    def check(self, version: Version | None) -> None:
        """Refuse a dialogue of another version, or none.

        Raises:
            DialogueChanged: the version is not as expected, or there is no dialogue.
        """
        if version is None or not self.allows(version):
            raise DialogueChanged("the dialogue has changed: read it again")
