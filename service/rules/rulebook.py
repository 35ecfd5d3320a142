"""The rules in force; their file is read again when it changes."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from service.conversation.labels import AnyLabelSpace
from service.files import Stamp, stamp_of
from service.rules.rule_files import RulesError, RuleSet, read_rules

log = logging.getLogger(__name__)

_LOOK_S = 1.0


class Rulebook:
    """The rules of a file.

    Attributes:
        rules: as of the last valid state of the file.
    """

    def __init__(self, file: Path, label_spaces: Mapping[str, AnyLabelSpace]) -> None:
        """Read the rules.

        Args:
            label_spaces: those that ship, derived ones included.

        Raises:
            RulesError: the file cannot be read, or is invalid.
        """
        self._file = file
        self._label_spaces = label_spaces
        before = _stamps((file,))  # a change from here on is seen by the next look
        self.rules: RuleSet = read_rules(file, label_spaces)
        self._stamps = (*before, *_stamps(self.rules.files[1:]))

    async def watch(self) -> None:
        """Apply changes of the file, and of its endpoints' secrets, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Load the file if it has changed: all of it, or nothing if it is invalid."""
        stamps = await asyncio.to_thread(_stamps, self.rules.files)
        if stamps == self._stamps:
            return
        self._stamps = stamps  # also of an invalid file, which is reported once
        try:
            rules = await asyncio.to_thread(read_rules, self._file, self._label_spaces)
        except RulesError as error:
            log.error("the rules are not reloaded: %s", error)
            return
        if rules.files != self.rules.files:
            secrets = await asyncio.to_thread(_stamps, rules.files[1:])
            self._stamps = (stamps[0], *secrets)
        self.rules = rules
        log.info("%d rules read from %s", len(rules.rules), self._file)


def _stamps(files: tuple[Path, ...]) -> tuple[Stamp | None, ...]:
    return tuple(map(stamp_of, files))
