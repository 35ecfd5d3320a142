"""Which state of a dialogue somebody has seen, so that nobody writes over what he has not."""

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

    def allows(self, found: Version) -> bool:
        """Whether a dialogue of this version is as expected."""
        return self.versions is None or str(found) in self.versions

    def check(self, found: Version | None) -> None:
        """Refuse a dialogue that is another one, or is not there.

        Raises:
            DialogueChanged: it is.
        """
        if found is None or not self.allows(found):
            raise DialogueChanged("the dialogue is not as it was: read it again")
