"""The table of methods, and how one is made. Listing names imports neither torch nor any method."""

from __future__ import annotations

import hashlib
import importlib
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dctkd.errors import InputError, did_you_mean, shown

if TYPE_CHECKING:
    from dctkd.methods.base import DataSpec, Method
    from dctkd.methods.options import MethodOptions
    from dctkd.models import ModelSpec

CLASS_NAMES: Final[Mapping[str, str]] = types.MappingProxyType(
    {
        "baseline": "Baseline",
        "shuffled_teacher": "ShuffledTeacher",
        "kd": "KD",
        "at": "AT",
        "fitnets": "FitNets",
        "vid": "VID",
        "crd": "CRD",
        "review": "ReviewKD",
        "dct": "DCT",
        "fam": "FAM",
        "pkt": "PKT",
        "semckd": "SemCKD",
        "rkd": "RKD",
        "sp": "SP",
        "nst": "NST",
        "dkd": "DKD",
        "dist": "DIST",
        "mgd": "MGD",
        "dct_release": "DCTRelease",
        "dct_main": "DCTMain",
        "map_l2": "MapL2",
        "dft_magnitude": "DFTMagnitude",
        "fam_layer": "FAMLayer",
    }
)
"""Class of each method, in the order of the tables. The key is the name everywhere, also of the file (kd.py)."""


class _MethodTable(Mapping[str, "type[Method]"]):
    """Read-only mapping from name to class; a class is imported when it is looked up."""

    def __getitem__(self, name: str) -> type[Method]:
        if name not in CLASS_NAMES:
            raise InputError(f"unknown method {name!r}{did_you_mean(str(name), CLASS_NAMES)}")
        method_class: type[Method] = getattr(importlib.import_module(f"dctkd.methods.{name}"), CLASS_NAMES[name])
        return method_class

    def __contains__(self, name: object) -> bool:
        return name in CLASS_NAMES

    def __iter__(self) -> Iterator[str]:
        return iter(CLASS_NAMES)

    def __len__(self) -> int:
        return len(CLASS_NAMES)


METHODS: Final[Mapping[str, type[Method]]] = _MethodTable()
"""Name to class. `METHODS[name]` raises InputError, with the nearest names, for a name that is not there."""


def create(
    method: str | type[Method], student: ModelSpec, teacher: ModelSpec, data: DataSpec, **options: Any
) -> Method:
    """Build a method for a pair of networks.

    Args:
        method: Name in METHODS, or a class (from `load_method`).
        student: Shapes of the student's outputs.
        teacher: Shapes of the teacher's outputs.
        data: Classes, number and labels of the training images.
        **options: The method's own options; what is left out takes its default.

    Returns:
        The method, in float32 on the CPU, in training mode.

    Raises:
        InputError: If the name or an option is unknown, an option is out of range, or the method does not suit the
            pair.
    """
    method_class, name = (METHODS[method], method) if isinstance(method, str) else (method, method.__name__)
    return method_class(student, teacher, data, make_options(method_class, options, where=f"{name}: options"))


def make_options(method_class: type[Method], options: Mapping[str, Any], *, where: str) -> MethodOptions:
    """Return the checked options object of a method.

    Args:
        method_class: The method.
        options: Option names and values, as YAML gives them.
        where: Key path of the options, which starts every message.

    Raises:
        InputError: One line: key path, what was expected, what came, nearest known name.
    """
    from pydantic import ValidationError

    from dctkd.methods import catalogue

    checked = catalogue.validate_options({"options_schema": method_class.Options.model_json_schema()}, options, where)
    try:
        return method_class.Options.model_validate(checked)
    except ValidationError as error:  # A rule over several fields: the schema does not know it.
        first = error.errors(include_url=False)[0]
        path = ".".join([where, *(str(part) for part in first["loc"])])
        raise InputError(f"{path}: {first['msg'].removeprefix('Value error, ')}") from error


def load_method(file: Path, *, sha256: str | None = None) -> type[Method]:
    """Return the one method that a user's Python file defines.

    The file is run as a module of its own; the same content gives the same class again.

    Args:
        file: Path of a .py file.
        sha256: Hex SHA-256 that its content must have to be run; None: any.

    Raises:
        InputError: If the file is missing, was changed, does not run, or defines no method, several, or an incomplete
            one.
    """
    try:
        source = file.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            f"{file}: cannot be read ({reason}); give the path of a Python file that defines a method"
        ) from error
    if sha256 not in (None, hashlib.sha256(source).hexdigest()):
        raise InputError(
            f"{file}: changed since the plan was made, so it is not run; run snakemake again, which plans anew"
        )
    module = _run_file(file.resolve(), source)

    from dctkd.methods.base import Method
    from dctkd.methods.catalogue import missing_attributes

    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(value.__name__ for value in found) or "none"
        raise InputError(f"{file}: expected exactly one subclass of dctkd.methods.base.Method, found {names}")
    if missing := missing_attributes(found[0]):
        raise InputError(f"{file}: {found[0].__name__} lacks the class attributes {', '.join(missing)}; add them")
    _check_options_type(file, found[0])
    return found[0]


def _check_options_type(file: Path, method_class: type[Method]) -> None:
    from dctkd.methods.options import MethodOptions

    options: object = method_class.Options
    if not (isinstance(options, type) and issubclass(options, MethodOptions)):
        raise InputError(
            f"{file}: {method_class.__name__}.Options must be a subclass of dctkd.methods.options.MethodOptions, "
            f"got {shown(options)}; derive it from that"
        )


def _run_file(file: Path, source: bytes) -> types.ModuleType:
    # Compiled here, not imported: cached bytecode is renewed by the second, so a quick edit could run the former text.
    name = f"dctkd_user_method_{hashlib.sha256(str(file).encode() + source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = str(file)
    sys.modules[name] = module  # Pydantic looks up postponed annotations there.
    try:
        exec(compile(source, str(file), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InputError(
            f"{file}: this file does not run: {type(error).__name__}: {error}; mend it, and try it by "
            "`dctkd methods check`"
        ) from error
    return module
