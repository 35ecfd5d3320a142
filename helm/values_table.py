"""Prints the chart's values as a Markdown table: value, default, what it sets.

`python helm/values_table.py` prints what stands between the marks in the chart's README.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

VALUES = Path(__file__).parent / "instructerc" / "values.yaml"


def values_table() -> str:
    """One row for each value, in the order of `values.yaml`.

    Raises:
        ValueError: a value there has no comment above it.
        TypeError: the file is not what it should be.
    """
    text = VALUES.read_text("utf-8")
    rows = ["| value | default | sets |", "|---|---|---|"]
    section = yaml.compose(text)
    if not isinstance(section, yaml.MappingNode):
        raise TypeError(f"{VALUES}: is no mapping")
    for path, default, comment in _values(section, text.splitlines(), ""):
        rows.append(f"| `{path}` | {default and f'`{default}`'} | {comment} |")
    return "\n".join(rows)


def _values(
    section: yaml.MappingNode, lines: Sequence[str], prefix: str
) -> Iterator[tuple[str, str, str]]:
    for key, value in section.value:
        path, comment = prefix + key.value, _comment(lines, key)
        if isinstance(value, yaml.MappingNode) and _explains(value, lines):
            yield from _values(value, lines, path + ".")
        elif not comment:
            raise ValueError(f"{path} has no comment")
        else:
            yield path, _default(value), comment


def _explains(section: yaml.MappingNode, lines: Sequence[str]) -> bool:
    return any(
        _comment(lines, key) or (isinstance(value, yaml.MappingNode) and _explains(value, lines))
        for key, value in section.value
    )


def _comment(lines: Sequence[str], key: yaml.Node) -> str:
    first = last = key.start_mark.line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(line.strip().removeprefix("# ") for line in lines[first:last])


def _default(value: yaml.Node) -> str:
    if isinstance(value, yaml.MappingNode):
        return ", ".join(f"{k.value}: {_default(v)}" for k, v in value.value) or "{}"
    if isinstance(value, yaml.SequenceNode):
        return ", ".join(map(_default, value.value)) or "[]"
    return str(value.value)


if __name__ == "__main__":
    print(values_table())
