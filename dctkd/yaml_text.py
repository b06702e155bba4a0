"""YAML as experiments use it: read safely, bounded in size, depth and aliases, and nothing in it but plain values.

A mapping that somebody else parsed, as Snakemake does, is held to the same bounds by `require_plain`.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dctkd.errors import UNPRINTABLE, InputError, shown

MAX_BYTES = 2**16
"""Longest YAML text; the largest experiment file of this repository has 4 kB."""
MAX_DEPTH = 40
"""Deepest nesting of lists and mappings; an experiment needs 6."""
MAX_WEIGHT = 100_000
"""Most values, with each alias counted as often as it is used, and each 16 characters of a text as one more."""
MAX_INTEGER = 2**63 - 1


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping of plain values.

    Raises:
        InputError: If the file is missing, is not YAML, is too large, repeats a key, or holds something else.
    """
    try:
        with path.open("rb") as file:  # not all of it: it may be a device, or a weight file
            content = file.read(MAX_BYTES + 1)
        is_too_long = len(content) > MAX_BYTES
        text = "" if is_too_long else content.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; give the path of an experiment file, such as config/demo.yaml"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error}); save it as UTF-8") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot be read as UTF-8 text ({reason}); give the path of an experiment file"
        ) from error
    if is_too_long:
        raise InputError(f"{path}: longer than {MAX_BYTES} bytes; give an experiment file, such as config/demo.yaml")
    raw = parse_yaml(text, where=str(path))
    if not isinstance(raw, dict):
        raise InputError(f"{path}: expected a mapping of keys at the top, such as `experiment: demo`, got {_kind(raw)}")
    if "__use_yte__" in raw:  # Snakemake would have run what the file says before it reads the first rule
        raise InputError(f"{path}: __use_yte__: templates run code; write plain values")
    return raw


def parse_yaml(text: str, *, where: str) -> Any:
    """Return the value of a YAML text.

    Args:
        text: One document.
        where: Name of its source for messages.

    Raises:
        InputError: If it is not YAML, or holds anything but plain values within the bounds above.
    """
    if len(text) > MAX_BYTES:
        raise InputError(f"{where}: longer than {MAX_BYTES} characters; write it shorter")
    try:
        value = yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise InputError(f"{where}: nested deeper than {MAX_DEPTH} levels; write it flatter") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: not valid YAML: {error}; mend the text there") from error
    require_plain(value, where=where)
    return value


def require_plain(value: Any, *, where: str) -> None:
    """Check that a value is what JSON could hold: text, finite numbers, true, false, null, lists, mappings by text.

    Time is linear in what is in memory: what occurs twice is looked at once, and counted twice.

    Args:
        value: As a YAML parser gives it.
        where: Name of its source for messages.

    Raises:
        InputError: Names the key path of the first value that is something else, holds itself, or is too much.
    """
    _Weigher(where).weigh(value, ())


class _Weigher:
    """Weighs values: how many they are, written out, and how deep they nest."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._known: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def weigh(self, value: Any, path: tuple[object, ...]) -> tuple[int, int]:
        """Return the weight and the depth of a value."""
        if not isinstance(value, (Mapping, list, tuple)):
            if problem := _problem_of(value):
                raise InputError(f"{self._name(path)}: {problem}")
            return 1 + (len(value) // 16 if isinstance(value, str) else 0), 0
        if id(value) in self._known:
            return self._known[id(value)]
        if id(value) in self._open:
            raise InputError(f"{self._name(path)}: holds itself; write it out without the alias")
        if len(path) > MAX_DEPTH:
            raise InputError(f"{self._name(path[:3])}: nested deeper than {MAX_DEPTH} levels; write it flatter")
        self._open.add(id(value))
        weight, depth = 1, 0
        for key, inner in self._items(value, path):
            inner_weight, inner_depth = self.weigh(inner, (*path, key))
            weight, depth = weight + inner_weight, max(depth, inner_depth + 1)
            if weight > MAX_WEIGHT or depth > MAX_DEPTH:
                raise InputError(
                    f"{self._name(path)}: written out, it holds more than {MAX_WEIGHT} values or nests deeper than "
                    f"{MAX_DEPTH} levels; use fewer aliases"
                )
        self._open.remove(id(value))
        self._known[id(value)] = weight, depth
        return weight, depth

    def _items(self, value: Any, path: tuple[object, ...]) -> Iterator[tuple[object, Any]]:
        if not isinstance(value, Mapping):
            yield from enumerate(value)
            return
        for key, inner in value.items():
            if not isinstance(key, str):
                advice = "put it in quotes" if isinstance(key, (bool, int, float)) else "write plain text"
                raise InputError(f"{self._name(path)}: a key must be text, got {_kind(key)} {shown(key)}; {advice}")
            self.weigh(key, (*path, key))
            yield key, inner

    def _name(self, path: Sequence[object]) -> str:
        return f"{self._where}: {shown('.'.join(map(str, path)), quote='')}" if path else self._where


def _problem_of(value: Any) -> str | None:
    """Say why a single value cannot be used, or None."""
    if value is None or isinstance(value, (bool, Path)):
        return None
    if isinstance(value, str):
        odd = next((found[0] for found in UNPRINTABLE.finditer(value) if found[0] not in "\n\t"), None)
        return None if odd is None else f"text with the control character U+{ord(odd):04X}; remove it"
    if isinstance(value, int):
        return None if abs(value) <= MAX_INTEGER else f"an integer beyond {MAX_INTEGER}; write a smaller one"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"expected a finite number, got {value}; write a finite one"
    if isinstance(value, datetime.date):
        return f"expected text or a number, got the date {value}; put it in quotes"
    return f"expected text, a number, a list or a mapping, got {_kind(value)}; write plain values only"


def _kind(value: Any) -> str:
    names = {"NoneType": "nothing", "str": "text", "int": "a number", "float": "a number", "bool": "true or false"}
    return names.get(type(value).__name__, type(value).__name__)


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice; plain YAML would silently keep the last."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:  # at once: reading on takes time that grows with the square of the depth
            raise RecursionError
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        # Before anything is made of it: merge keys copy, so that aliases within aliases would fill the memory.
        if node is not None:
            _weigh_node(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {shown(key)} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        # Sexagesimal numbers (1:30:00) of any length take time that grows with its square.
        if len(node.value) > 100:
            raise yaml.constructor.ConstructorError(None, None, "a number of over 100 characters", node.start_mark)
        return int(super().construct_yaml_int(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        if len(node.value) > 100:
            raise yaml.constructor.ConstructorError(None, None, "a number of over 100 characters", node.start_mark)
        return float(super().construct_yaml_float(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def _weigh_node(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the nodes below one, aliases as often as they are used; refuses too many, and a node within itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if (weight := known.get(id(node))) is not None:
        if weight == 0:
            raise yaml.constructor.ConstructorError(None, None, "an alias within its own anchor", node.start_mark)
        return weight
    known[id(node)] = 0
    weight = 1
    for part in node.value:
        weight += sum(_weigh_node(inner, known) for inner in (part if isinstance(part, tuple) else (part,)))
        if weight > MAX_WEIGHT:
            raise yaml.constructor.ConstructorError(
                None, None, f"aliases that stand for more than {MAX_WEIGHT} values", node.start_mark
            )
    known[id(node)] = weight
    return weight
