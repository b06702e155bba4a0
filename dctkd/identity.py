"""What determines a run: the part of the config that its spec hashes. Imports neither torch nor timm."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from dctkd.config import KD_SUFFIX, Dataset, Experiment, InputRecipe, MethodRow, Model
from dctkd.errors import InputError, did_you_mean, shown
from dctkd.provenance import sha256_of, sha256_of_file
from dctkd.recipe import Recipe
from dctkd.strict import Strict

ENGINE_RESULTS_VERSION = 1
"""Bumped in the commit in which the training engine's bits change."""


class DataIdentity(Strict):
    """What determines a dataset's tensors, apart from the photographs themselves (the fingerprint)."""

    format: str
    options: dict[str, Any]
    input: InputRecipe
    on_problem: Literal["fail", "drop"]
    results_version: int


class ModelIdentity(Strict):
    """What determines a network before training."""

    architecture: str
    options: dict[str, Any]
    pretrained: bool
    weights_sha256: str | None


class MethodIdentity(Strict):
    """What determines a method's terms and their weights."""

    method: str
    options: dict[str, Any]
    weight: float
    warmup_epochs: float
    ce: float
    teacher_correct_only: bool
    kd_weight: float
    kd_temperature: float | None
    kd_teacher_correct_only: bool
    results_version: int
    source_sha256: str | None


class Identity(Strict):
    """Everything in the config that determines a run; its hash is the spec."""

    kind: Literal["teacher", "student"]
    data: DataIdentity
    model: ModelIdentity
    recipe: Recipe
    seed: int
    engine_results_version: int
    teacher_spec: str | None = None
    teacher_model: ModelIdentity | None = None
    stages: Literal["auto"] | tuple[tuple[int, int], ...] | None = None
    method: MethodIdentity | None = None

    @property
    def spec(self) -> str:
        """Hex SHA-256 of the identity."""
        return sha256_of(self.model_dump(mode="json"))


def is_identity(record: Mapping[str, Any], *, spec: str, seed: int, alike: Mapping[str, Any]) -> bool:
    """Tell whether a record of a plan is a whole identity with this spec and seed.

    Args:
        record: What the plan says of a run.
        spec: The run's spec.
        seed: The run's seed.
        alike: A record that this function has accepted, or the same: where only the seed and the teacher's spec differ,
            the hash alone is looked at, which is several times as fast.

    Raises:
        ValueError: If the record is no identity.
    """
    if record is not alike and record == {**alike, "seed": seed, "teacher_spec": record["teacher_spec"]}:
        return sha256_of(record) == spec
    identity = Identity.model_validate(record)
    return (spec, seed) == (identity.spec, identity.seed)


def identify_data(dataset: Dataset, where: str) -> DataIdentity:
    """Return a dataset's identity; `where` is its key path for messages."""
    from dctkd.data import RESULTS_VERSION
    from dctkd.data.formats import parse_options

    options = parse_options(dataset.format, dataset.options, where)
    return DataIdentity(
        format=dataset.format,
        options=options.model_dump(mode="json"),
        input=dataset.input,
        on_problem=dataset.on_problem,
        results_version=RESULTS_VERSION,
    )


def identify_model(model: Model, where: str) -> ModelIdentity:
    """Return a network's identity; local weights are known by their content."""
    sha256 = None
    if model.weights is not None:
        sha256 = _sha256_of_input(model.weights, f"{where}.weights", "a .safetensors or .pth file")
    return ModelIdentity(
        architecture=model.architecture, options=model.options, pretrained=model.pretrained, weights_sha256=sha256
    )


def _sha256_of_input(path: Path, where: str, expected: str) -> str:
    """Hash a file of the user's; a folder, a device or a name that no file can have is refused."""
    try:
        if not path.is_file():
            raise InputError(f"{where}: no such file {shown(str(path), quote='')}; give the path of {expected}")
        return _sha256_of(path, path.stat().st_mtime_ns)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{where}: cannot read {shown(str(path), quote='')} ({reason}); give the path of {expected}"
        ) from error


@cache
def _sha256_of(path: Path, changed_ns: int) -> str:
    """Hash large weights once per process, not once per model that starts from them."""
    return sha256_of_file(path)


def method_file(row: MethodRow, folder: Path) -> Path | None:
    """Return the path of a row's own method file; relative ones are relative to the experiment file's folder."""
    return None if row.file is None else folder / row.file


def identify_method(name: str, row: MethodRow, config: Experiment, folder: Path, where: str) -> MethodIdentity:
    """Return a row's identity; a file of the user's is known by its content.

    Every default is filled in, but that of an option which the method got after runs of it existed.
    """
    from dctkd.methods import catalogue

    with_kd = name.endswith(KD_SUFFIX)
    method = row.method or name.removesuffix(KD_SUFFIX)
    file = method_file(row, folder)
    sha256 = None if file is None else _sha256_of_input(file, f"{where}.file", "a Python file that defines a method")
    entry = _built_in_method(method, where) if file is None else _method_in_file(file, sha256, where)
    default_ce = config.kd.ce if with_kd else entry["default_ce"]
    recipe = config.recipes[config.student_recipe]
    masked = recipe.teacher_correct_only
    if recipe.micro_batch is not None and entry["needs_whole_batch"]:
        raise InputError(
            f"{where}: {method} relates the images of a batch to each other, so batches of {recipe.micro_batch} would "
            f"be another experiment; remove micro_batch from recipes.{config.student_recipe}, or the row"
        )
    if recipe.processes is not None and entry["needs_whole_batch"]:
        raise InputError(
            f"{where}: {method} relates the images of a batch to each other, so a batch shared by {recipe.processes} "
            f"processes would be another experiment; remove processes from recipes.{config.student_recipe}, or the row"
        )
    return MethodIdentity(
        method=method,
        options=catalogue.identify_options(entry, row.options, where=f"{where}.options"),
        weight=entry["default_weight"] if row.weight is None else row.weight,
        warmup_epochs=entry["default_warmup_epochs"] if row.warmup_epochs is None else row.warmup_epochs,
        ce=default_ce if row.ce is None else row.ce,
        teacher_correct_only=masked if row.teacher_correct_only is None else row.teacher_correct_only,
        kd_weight=config.kd.weight if with_kd else 0.0,
        kd_temperature=config.kd.temperature if with_kd else None,
        kd_teacher_correct_only=masked and with_kd,
        results_version=entry["results_version"],
        source_sha256=sha256,
    )


def _built_in_method(method: str, where: str) -> dict[str, Any]:
    from dctkd.methods import METHODS, catalogue

    if method not in METHODS:
        raise InputError(f"{where}: unknown method {method!r}{did_you_mean(method, METHODS)}")
    return catalogue.entry(method)


def _method_in_file(file: Path, sha256: str | None, where: str) -> dict[str, Any]:
    from dctkd.methods import catalogue, load_method  # the file imports torch: plans with own methods pay for it

    try:
        return catalogue.describe(load_method(file, sha256=sha256))
    except InputError as error:
        raise InputError(f"{where}.file: {error}") from error
