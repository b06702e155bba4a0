"""What is known of every method without importing torch: catalogue.json, and the check of options against it.

`dctkd methods sync` writes the file; a test fails if it is stale. A stale entry is never used: its class is imported
instead.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dctkd.errors import InputError
from dctkd.methods import METHODS
from dctkd.methods.option_schema import check_options, without_later_defaults
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
    """Return the catalogue entry of a class: attributes, JSON schema of its options, modules it is made of, their hash.

    Raises:
        InputError: If the class lacks one of the attributes.
    """
    if missing := missing_attributes(method_class):
        raise InputError(
            f"{method_class.__name__}: missing class attributes {', '.join(missing)}; see dctkd.methods.base.Method"
        )
    entry: Entry = {name: getattr(method_class, name) for name in ATTRIBUTES}
    entry["options_schema"] = method_class.Options.model_json_schema()
    entry["sources"] = _sources(method_class)
    entry["source_sha256"] = _source_sha256(entry["sources"])
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


def identify_options(method: str | Mapping[str, Any], options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what of a method's options determines a run: all of them, but `later_option`s at their defaults.

    `methods.create` fills in what is left out, with the same values.

    Args:
        method: As of `validate_options`.
        options: As of `validate_options`.
        where: As of `validate_options`.

    Raises:
        InputError: As `validate_options`.
    """
    if isinstance(method, str):
        method = entry(method)
    return without_later_defaults(method["options_schema"], validate_options(method, options, where))


def entry(method: str) -> Entry:
    """Return the entry of one method in METHODS; the file is read once per process."""
    if method not in METHODS:
        METHODS[method]  # Raises, with the nearest names.
    return _read_once()[method]


@functools.cache
def _read_once() -> dict[str, Entry]:
    return read()


def _fresh_entry(name: str, stored: Entry) -> Entry:
    try:
        if stored.get("source_sha256") == _source_sha256(stored.get("sources", [])):
            return stored
    except FileNotFoundError:  # A module that the class came from has gone.
        pass
    return describe(METHODS[name])


def _sources(method_class: type[Method]) -> list[str]:
    """Return the names of the modules of this package that define the class, its options and what they derive from."""
    package = f"{__package__}."
    modules = {base.__module__ for base in (*method_class.__mro__, *method_class.Options.__mro__)}
    return sorted(module.removeprefix(package) for module in modules if module.startswith(package))


def _source_sha256(sources: list[str]) -> str:
    return sha256_of([sha256_of_file(CATALOGUE.with_name(f"{source}.py")) for source in sources])
