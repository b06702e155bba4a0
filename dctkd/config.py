"""The experiment file: typed, frozen, checked where it is read. Imports neither torch nor timm.

A Snakefile is parsed again by every cluster job, so this module must load in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from dctkd.contrasts import Audit, require_measurable
from dctkd.errors import InputError, did_you_mean, shown
from dctkd.names import RESERVED_EXPERIMENTS, RESERVED_ROWS, Name
from dctkd.recipe import Recipe
from dctkd.strict import Strict
from dctkd.validation import explain
from dctkd.yaml_text import read_yaml, require_plain

MAX_SEED = 2**32 - 1
MAX_SIDE = 65_535
"""Pixels; the longest side that decoding allows."""

KD_SUFFIX = "+kd"
"""End of the name of a row that adds the logit term to a method's own."""


class InputRecipe(Strict):
    """How an image becomes a network's input."""

    short_side: int | None = Field(
        None, ge=1, le=MAX_SIDE, description="pixels; the short side is resized to this once; null keeps the size"
    )
    crop: int = Field(
        description="pixels; side of the square crop, random in training, central in testing", ge=1, le=MAX_SIDE
    )
    hflip: bool = Field(True, description="mirror each training image with probability 0.5")
    mean: tuple[float, float, float] = Field(
        (0.485, 0.456, 0.406), description="per channel, of pixels in [0, 1]; ImageNet's"
    )
    std: tuple[float, float, float] = Field(
        (0.229, 0.224, 0.225), description="per channel, of pixels in [0, 1]; ImageNet's"
    )

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.short_side is not None and self.crop > self.short_side:
            raise ValueError(f"crop {self.crop} must not exceed short_side {self.short_side}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be > 0 in every channel, got {self.std}")
        return self


class Dataset(Strict):
    """One dataset: its format, where it lies, how images become inputs."""

    format: str = Field(description="name in dctkd.data.formats.FORMATS")
    root: Path | None = Field(None, description="folder; relative to data_root; null: data_root itself")
    options: dict[str, Any] = Field(default_factory=dict, description="the format's own options")
    input: InputRecipe
    on_problem: Literal["fail", "drop"] = Field("fail", description="what to do about an image that cannot be used")


class Model(Strict):
    """A network of timm."""

    architecture: str = Field(description="timm model name, with its tag where weights are pretrained")
    options: dict[str, Any] = Field(default_factory=dict, description="passed to timm.create_model")
    pretrained: bool = Field(False, description="start from timm's weights of that tag (through the hub)")
    weights: Path | None = Field(None, description="start from this local .safetensors or .pth file")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.pretrained and self.weights is not None:
            raise ValueError("pretrained and weights exclude each other: remove one")
        return self


class Pair(Strict):
    """Teacher and student, by their names under models."""

    teacher: Name
    student: Name
    stages: Literal["auto"] | tuple[tuple[int, int], ...] = Field(
        "auto", description="auto, or pairs [student stage, teacher stage], counted from 0"
    )

    @property
    def name(self) -> str:
        """Folder and table name of the pair."""
        return f"{self.teacher}__{self.student}"


class MethodRow(Strict):
    """One row of the tables: a method, its weight and its options. Null means the method's own default."""

    method: str | None = Field(None, description="name in METHODS; null: the row's own name without +kd")
    file: Path | None = Field(None, description="Python file that defines the method, relative to the experiment file")
    weight: float | None = Field(None, ge=0, description="outer weight of the method's terms, no unit")
    warmup_epochs: float | None = Field(
        None, ge=0, description="epochs over which the outer weight rises linearly from 0"
    )
    ce: float | None = Field(None, ge=0, description="weight of the cross-entropy, no unit")
    teacher_correct_only: bool | None = Field(
        None,
        description="count this row's terms, but not a +kd term, only where the teacher is right (P1 did so for its "
        "own method alone); null: as the recipe says",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="the method's own options")


class KdTerm(Strict):
    """The logit term that `<method>+kd` adds; P1's values (Config/Training of its release, commit 3d70d15)."""

    weight: float = Field(1.0, ge=0, description="weight of T^2 KL, no unit; P1: 1")
    temperature: float = Field(4.0, gt=0, description="softmax temperature, no unit; P1: 4")
    ce: float = Field(0.1, ge=0, description="weight of the cross-entropy in a +kd row, no unit; P1: 0.1")


class Experiment(Strict):
    """A whole experiment file, resolved."""

    experiment: Name
    variant: Name | None = Field(None, description="chosen set of changes of the file; part of the experiment's name")
    title: str = Field("", description="one line for table captions")
    reported: tuple[Name, ...] = Field(
        (),
        description="published tables beside which the results are shown: paper_tables/reported/<name>.yaml; rows are "
        "matched by the names of datasets, models and methods",
    )
    audit: Audit | None = Field(
        None, description="measure what released code does otherwise than its paper: a table per finding"
    )
    data_root: Path | None = Field(None, description="folder that dataset roots are relative to")
    datasets: dict[Name, Dataset] = Field(min_length=1)
    models: dict[Name, Model] = Field(min_length=1)
    pairs: tuple[Pair, ...] = Field(min_length=1)
    methods: dict[Name, MethodRow] = Field(min_length=1)
    kd: KdTerm = Field(default_factory=lambda: KdTerm.model_validate({}))
    recipes: dict[Name, Recipe] = Field(min_length=1)
    student_recipe: Name
    teacher_recipe: Name
    seeds: tuple[Annotated[int, Field(ge=0, le=MAX_SEED)], ...] = Field(
        min_length=1, description="one run per seed; paired over methods"
    )
    teacher_seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | Literal["matched"] = Field(
        0, description="fixed as in P1, or matched: the student's seed"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where jobs compute; not part of a run's identity"
    )
    students_per_job: Literal["auto", "all"] | Annotated[int, Field(ge=1, le=10**6)] = Field(
        "auto",
        description="trained by one job on one teacher pass; auto leaves every core or GPU a job; no result moves",
    )
    keep_weights: Literal["all", "last", "none"] = Field(
        "last",
        description="all: also those of the best epochs on the test set and on held-out images; none: where students "
        "look cannot be measured; teachers are always kept",
    )
    map_sources: tuple[Literal["activation", "gradcam"], ...] = Field(
        ("activation", "gradcam"),
        min_length=1,
        description="maps that show where a network looks: mean squares of the features, and Grad-CAM of the label",
    )
    checkpoint_every_s: float = Field(
        60.0, gt=0, description="seconds after which a checkpoint is due in mid-epoch; each epoch ends with one"
    )
    job_hours: float | None = Field(
        None,
        gt=0,
        description="longest time that a batch system lets a job run, in hours: jobs ask for no more, and `auto` cuts "
        "packs that get done within it where they can; null: no limit",
    )
    wait_limit_s: float | None = Field(
        None,
        gt=0,
        description="seconds that a job waits for runs that others train, then it ends with status 75; null: no limit",
    )
    shared_results: bool | Literal["auto"] = Field(
        "auto", description="whether other machines write to results/ too; auto: as the type of its file system says"
    )
    latency_s: float = Field(
        60.0, ge=0, description="seconds that files of other machines may be seen late where results are shared"
    )
    stage_to: str | None = Field(
        None, description="folder on a node's own disk that jobs copy pixels to; $VARIABLES are those of the job"
    )
    stage_limit_gb: float | None = Field(None, gt=0, description="GB (10^9 bytes) of all copies there; null: no limit")

    @model_validator(mode="before")
    @classmethod
    def _empty_rows_are_defaults(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and isinstance(raw.get("methods"), Mapping):
            return {**raw, "methods": {key: {} if row is None else row for key, row in raw["methods"].items()}}
        return raw

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        if self.experiment.lower() in RESERVED_EXPERIMENTS:
            reserved = ", ".join(RESERVED_EXPERIMENTS)
            raise ValueError(f"experiment: {self.experiment!r} is the name of another folder; avoid {reserved}")
        if taken := [name for name in self.methods if name.lower() in RESERVED_ROWS]:
            raise ValueError(f"methods.{taken[0]}: the tables have a row of this name; call it otherwise")
        return self

    @model_validator(mode="after")
    def _processes_train_one_student(self) -> Self:
        recipe = self.recipes.get(self.student_recipe)
        if recipe is not None and recipe.processes is not None and self.students_per_job not in ("auto", 1):
            raise ValueError(
                "students_per_job: with processes a job trains one student, because a process that fails ends all of "
                f"them; got {self.students_per_job}, take auto or 1"
            )
        return self

    @model_validator(mode="after")
    def _teachers_do_not_see_what_students_hold_out(self) -> Self:
        student, teacher = self.recipes.get(self.student_recipe), self.recipes.get(self.teacher_recipe)
        if student is None or teacher is None or student.held_out_fraction is None or not teacher.epochs:
            return self
        if student.held_out_fraction > (teacher.held_out_fraction or 0.0):
            raise ValueError(
                f"recipes.{self.teacher_recipe}.held_out_fraction: the teacher would be trained on images that "
                f"recipes.{self.student_recipe} holds out (held_out_fraction {student.held_out_fraction:g}), which "
                f"students would see through it; set it to {student.held_out_fraction:g}, got "
                f"{'null' if teacher.held_out_fraction is None else format(teacher.held_out_fraction, 'g')}"
            )
        return self

    @model_validator(mode="after")
    def _contrasts_can_be_measured(self) -> Self:
        recipe = self.recipes.get(self.student_recipe)
        if self.audit is not None and recipe is not None:
            require_measurable(self.audit, self.methods, recipe, self.student_recipe)
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for number, pair in enumerate(self.pairs):
            for role in ("teacher", "student"):
                _require(getattr(pair, role), self.models, f"pairs.{number}.{role}", "model")
        _require(self.student_recipe, self.recipes, "student_recipe", "recipe")
        _require(self.teacher_recipe, self.recipes, "teacher_recipe", "recipe")
        for what, names in (
            ("seeds", [str(s) for s in self.seeds]),
            ("pairs", [pair.name for pair in self.pairs]),
            ("map_sources", [str(source) for source in self.map_sources]),
            ("reported", list(self.reported)),
        ):
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{what} must not repeat; {', '.join(repeated)} occurs twice")
        return self


def _require(name: str, known: Mapping[str, object], where: str, what: str) -> None:
    if name not in known:
        raise ValueError(f"{where}: unknown {what} {name!r}{did_you_mean(name, known)}")


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment file, apply overrides, choose the variant and check everything.

    Args:
        path: YAML file.
        overrides: Top-level keys that replace the file's (`--set`, Snakemake's `--config`).

    Raises:
        InputError: One line: file, key path, what was expected, nearest known name.
    """
    return resolve({**read_yaml(path), **(overrides or {})}, where=str(path))


def resolve(raw: Mapping[str, Any], *, where: str) -> Experiment:
    """Turn the mapping of an experiment file into a checked experiment.

    `variants` holds named sets of changes, merged over the rest key by key; `variant` chooses one, and its name is
    appended to the experiment's.

    Args:
        raw: The mapping, as YAML gives it.
        where: Name of its source for messages.

    Raises:
        InputError: As in `load`.
    """
    require_plain(raw, where=where)
    merged = {**raw, "recipes": {**_built_in_recipes(), **_mapping(raw.get("recipes"), f"{where}: recipes")}}
    variants = _mapping(merged.pop("variants", None), f"{where}: variants")
    variant = merged.get("variant")
    if variant is not None:
        if not isinstance(variant, str) or variant not in variants:
            raise InputError(
                f"{where}: variant: unknown variant {shown(variant)}{did_you_mean(str(variant), variants)}"
            )
        merged = _deep_merge(merged, _mapping(variants[variant], f"{where}: variants.{variant}"))
        if isinstance(merged.get("experiment"), str):
            merged["experiment"] = f"{merged['experiment']}-{variant}"
    try:
        return Experiment.model_validate(merged)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}") from error


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: expected a mapping, got {type(value).__name__}")
    return dict(value)


def _deep_merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _deep_merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged


def _built_in_recipes() -> dict[str, Any]:
    return read_yaml(Path(__file__).with_name("recipes.yaml"))
