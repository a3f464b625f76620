"""YAML that a user has written: its values, and the line of each for messages.

The values are those of YAML 1.2: ``1e-4`` is a number, and ``yes``, ``off`` and ``2026-01-01`` are
texts. JSON is YAML too, so the same reader takes it. Files of settings need no anchors, aliases and
tags, and these are refused: with aliases a short file can stand for gigabytes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from postnms.errors import UserError, shown_name

MOST_BYTES = 2**20
"""Largest size of a file that is read."""
KeyPath = tuple[str, ...]
"""The names and the positions in lists that lead to a value."""

_STR, _NULL, _BOOL, _INT, _FLOAT = (
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "null", "bool", "int", "float")
)
_SCALARS = {
    _NULL: re.compile(r"(?:~|null|Null|NULL|)$"),
    _BOOL: re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"),
    _INT: re.compile(r"[-+]?[0-9]+$"),
    _FLOAT: re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
}
"""How plain texts that are no strings look, in the order in which they are tried."""
_CONTAINERS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True)
class YamlFile:
    """The content of a YAML file."""

    values: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)
    """The line of each key and of each entry of a list, from 1 on, by the path to it."""


class _Loader(yaml.SafeLoader):
    """Reads plain texts as YAML 1.2 does, not as the older YAML 1.1."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, None)


def read_yaml(path: Path) -> YamlFile:
    """Read a YAML or JSON file of named values.

    Raises:
        UserError: the file cannot be read, has more than :data:`MOST_BYTES` bytes, is malformed,
            does not hold named values, or holds a name twice, an alias or a tag. The message begins
            with the path and the line.
    """
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise UserError(f"{path}: expected at most {MOST_BYTES} bytes of settings, got {size}")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: could not be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected UTF-8, got another byte at {error.start}") from error
    if path.suffix.lower() == ".json":
        text = text.replace("\t", " ")  # JSON may be indented with tabs, and YAML may not.
    try:
        node = yaml.compose(text, _Loader)
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{path}: expected fields as in 'seed: 1', got {_kind(node)}")
        lines: dict[KeyPath, int] = {}
        values = _Values(path, lines).of(node, ())
    except yaml.MarkedYAMLError as error:
        raise UserError(_explain(path, error)) from error
    except yaml.YAMLError as error:  # A character that YAML does not allow.
        raise UserError(f"{path}: malformed YAML ({str(error).splitlines()[0]})") from error
    except RecursionError as error:
        raise UserError(f"{path}: nests too deeply") from error
    return YamlFile(values, lines)


def line_of(lines: dict[KeyPath, int], path: Sequence[str]) -> int:
    """Return the line of a value, or that of the nearest value around it that the file holds."""
    for length in range(len(path), 0, -1):
        if (line := lines.get(tuple(path[:length]))) is not None:
            return line
    return 1


class _Values:
    """The values of the nodes of one file, and their lines."""

    def __init__(self, path: Path, lines: dict[KeyPath, int]) -> None:
        self.path = path
        self.lines = lines
        self.seen: set[int] = set()

    def of(self, node: yaml.Node, where: KeyPath) -> Any:
        # A composed alias is the very node that it stands for.
        if id(node) in self.seen:
            raise self.mistake(node, "an alias (*name) is not read; write the value out")
        self.seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if node.tag not in _CONTAINERS:
            raise self.mistake(node, f"a tag ({shown_name(node.tag)}) is not read; leave it out")
        if isinstance(node, yaml.SequenceNode):
            return [self.entry(part, (*where, str(i))) for i, part in enumerate(node.value)]
        values: dict[str, Any] = {}
        for key, value in node.value:
            name = self.of(key, where)
            if not isinstance(name, str):
                raise self.mistake(key, f"expected a name of a field, got {_kind(key)}")
            if name in values:
                raise self.mistake(key, f"{shown_name(name)}: is there twice")
            self.lines[(*where, name)] = key.start_mark.line + 1
            values[name] = self.of(value, (*where, name))
        return values

    def entry(self, node: yaml.Node, where: KeyPath) -> Any:
        self.lines[where] = node.start_mark.line + 1
        return self.of(node, where)

    def scalar(self, node: yaml.ScalarNode) -> Any:
        text = node.value
        if node.tag == _STR:
            # JSON writes a character over 65535 as two halves.
            try:
                return text.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                raise self.mistake(node, "half a character (a lone surrogate)") from None
        pattern = _SCALARS.get(node.tag)
        if pattern is None or not pattern.match(text):
            raise self.mistake(node, f"a tag ({shown_name(node.tag)}) is not read; leave it out")
        if node.tag == _NULL:
            return None
        if node.tag == _BOOL:
            return text.lower() == "true"
        try:
            return int(text) if node.tag == _INT else float(text)
        except ValueError:  # Python refuses to read an integer of thousands of digits.
            raise self.mistake(node, "an integer is too long") from None

    def mistake(self, node: yaml.Node, message: str) -> UserError:
        return UserError(f"{self.path}, line {node.start_mark.line + 1}: {message}")


def _explain(path: Path, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{path}, line {mark.line + 1}" if mark else str(path)
    return f"{where}: malformed YAML ({error.problem or error.context})"


def _kind(node: yaml.Node | None) -> str:
    """Return in plain words what a node is."""
    if node is None:
        return "an empty file"
    if isinstance(node, yaml.ScalarNode):
        return f"the value {shown_name(node.value)}"
    return "a list" if isinstance(node, yaml.SequenceNode) else "an object"
