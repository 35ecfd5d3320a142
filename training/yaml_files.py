"""YAML files, in which no key may be given twice: YAML itself takes the last one in silence."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"


def read_yaml(path: Path, refusal: type[ValueError]) -> Any:
    """The value of a YAML file.

    Args:
        refusal: what is raised; its message names the file and, where there is one, the line.

    Raises:
        refusal: no such file, not UTF-8, not YAML, or a key twice in one mapping.
    """
    try:
        # The loader is PyYAML's safe one, with a look at the keys.
        return yaml.load(path.read_text(encoding="utf-8-sig"), _UniqueKeys)  # noqa: S506
    except OSError as error:
        raise refusal(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise refusal(f"{path}: not UTF-8 at byte {error.start}") from None
    except _KeyTwice as error:
        raise refusal(f"{path}:{error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f" on line {mark.line + 1}"
        raise refusal(f"{path}: not YAML: {error.problem or error.context}{where}") from None
    # A ValueError is of a value that looks like a date and is none.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise refusal(f"{path}: not YAML: {error}") from None


class _KeyTwice(Exception):
    """A mapping has a key twice; the message begins with the line."""


class _UniqueKeys(yaml.SafeLoader):
    """Looks at mappings as they are written, before `<<` brings other mappings' keys into them."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[Hashable, int] = {}
        for written, _ in node.value:
            # By value: 1 and 0x1 are one key.
            key = "<<" if written.tag == _MERGE else self.construct_object(written, deep=True)
            if not isinstance(key, Hashable):  # which is refused where the mapping is made
                continue
            line = written.start_mark.line + 1
            if key in lines:
                raise _KeyTwice(f"{line}: {key!r} is also on line {lines[key]}; keep one of them")
            lines[key] = line
        return node
