"""What is known of every method without importing torch: catalogue.json, and the check of options against it.

`dctkd methods sync` writes the file; a test fails if it is stale. A stale entry is never used: its class is imported
instead.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dctkd.errors import InputError
from dctkd.methods import METHODS
from dctkd.methods.option_schema import check_options
from dctkd.provenance import sha256_of, sha256_of_file, write_atomic

if TYPE_CHECKING:
    from dctkd.methods.base import Method

CATALOGUE: Final = Path(__file__).with_name("catalogue.json")
ATTRIBUTES: Final = (
    "title",
    "paper",
    "year",
    "features",
    "default_weight",
    "default_weight_source",
    "default_ce",
    "default_warmup_epochs",
    "results_version",
    "needs_whole_batch",
)
Entry = dict[str, Any]


def describe(method_class: type[Method]) -> Entry:
    """Return the catalogue entry of a class: its attributes, the JSON schema of its options, the hash of its source.

    Raises:
        InputError: If the class lacks one of the attributes.
    """
    if missing := missing_attributes(method_class):
        raise InputError(
            f"{method_class.__name__}: missing class attributes {', '.join(missing)}; see dctkd.methods.base.Method"
        )
    entry: Entry = {name: getattr(method_class, name) for name in ATTRIBUTES}
    entry["options_schema"] = method_class.Options.model_json_schema()
    entry["source_sha256"] = _source_sha256(Path(inspect.getfile(method_class)))
    return entry


def missing_attributes(method_class: type[Method]) -> list[str]:
    """Return the names of the class attributes that a method must have and this one lacks."""
    return [name for name in ATTRIBUTES if not hasattr(method_class, name)]


def build() -> dict[str, Entry]:
    """Return the entry of every method in METHODS, from the classes (imports torch)."""
    return {name: describe(method_class) for name, method_class in METHODS.items()}


def write(path: Path = CATALOGUE) -> None:
    """Write the catalogue that `read` uses."""
    write_atomic(path, json.dumps(build(), indent=2) + "\n")


def read(path: Path = CATALOGUE) -> dict[str, Entry]:
    """Return the entry of every method in METHODS, without importing torch if the file is up to date.

    Raises:
        InputError: If the file is not JSON.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        stored = {}
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); write it anew with `dctkd methods sync`") from error
    return {name: _fresh_entry(name, stored.get(name, {})) for name in METHODS}


def validate_options(method: str | Mapping[str, Any], options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check a method's options against its JSON schema and fill in the defaults. Imports no torch.

    Numbers take the type of their field (4 becomes 4.0 where a float is expected), so that equal settings have one
    canonical form. Rules over several fields are not part of a schema: `methods.make_options` checks them when the
    method is made.

    Args:
        method: Name in METHODS, or an entry as `describe` returns it.
        options: Option names and values, as YAML gives them.
        where: Key path of the options, which starts every message, such as "demo.yaml: methods.kd.options".

    Returns:
        Every option with its value, as plain JSON types.

    Raises:
        InputError: One line: key path, what was expected, what came, nearest known name.
    """
    if isinstance(method, str):
        method = entry(method)
    return check_options(method["options_schema"], options, where)


def entry(method: str) -> Entry:
    """Return the entry of one method in METHODS; the file is read once per process."""
    if method not in METHODS:
        METHODS[method]  # Raises, with the nearest names.
    return _read_once()[method]


@functools.cache
def _read_once() -> dict[str, Entry]:
    return read()


def _fresh_entry(name: str, stored: Entry) -> Entry:
    if stored.get("source_sha256") == _source_sha256(CATALOGUE.with_name(f"{name}.py")):
        return stored
    return describe(METHODS[name])


def _source_sha256(file: Path) -> str:
    # The base and its options are part of it: an attribute that a class does not set comes from there.
    return sha256_of(
        [sha256_of_file(source) for source in (file, *map(CATALOGUE.with_name, ("base.py", "options.py")))]
    )
