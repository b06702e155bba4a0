"""From an experiment to its runs, their specs and the packs that train them. Imports neither torch nor timm.

A run is known by its *spec*: the hash of everything in the config that determines it (identity.py). Names of datasets,
models and rows are not in it, so experiments share runs; what is only known inside a job (pixels, teacher's bits,
resolved precision) joins it in the run's digest (store).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from dctkd.config import Experiment
from dctkd.errors import InputError, did_you_mean
from dctkd.identity import (
    ENGINE_RESULTS_VERSION,
    DataIdentity,
    Identity,
    ModelIdentity,
    identify_data,
    identify_method,
    identify_model,
)
from dctkd.metrics import OVERLAP_VERSION
from dctkd.packs import Pack, cut_packs
from dctkd.provenance import sha256_of


@dataclass(frozen=True)
class Run:
    """One run under this experiment's names; `path` is its published edge below the results folder."""

    dataset: str
    teacher: str
    student: str | None
    method: str | None
    seed: int
    spec: str
    path: str
    identity: Mapping[str, Any] = field(repr=False)

    @property
    def pair(self) -> str | None:
        """Name of the pair, or None for a teacher."""
        return f"{self.teacher}__{self.student}" if self.student else None

    @property
    def overlap_path(self) -> str:
        """Where it is published, below the results folder, where this student looks."""
        return str(PurePosixPath(self.path).with_name("overlap.json"))

    def names(self) -> dict[str, Any]:
        """The `run` block of the published edge."""
        return {
            "dataset": self.dataset,
            "teacher": self.teacher,
            "student": self.student,
            "method": self.method,
            "seed": self.seed,
            "epochs": self.identity["recipe"]["epochs"],
        }


@dataclass(frozen=True)
class Plan:
    """All runs of an experiment, in table order.

    Attributes:
        config: The experiment.
        config_file: Path of its file.
        teachers: Their runs.
        runs: Of the students.
        packs: How one job's students are cut from the rows.
        is_for_cluster: Whether jobs run on other machines than this one.
    """

    config: Experiment
    config_file: str
    teachers: tuple[Run, ...]
    runs: tuple[Run, ...]
    packs: tuple[Pack, ...]
    is_for_cluster: bool = False

    @property
    def name(self) -> str:
        """Name of the experiment and of its folders."""
        return self.config.experiment

    def teacher_of(self, run: Run) -> Run:
        """Return the teacher that a student's run learns from."""
        spec = run.identity["teacher_spec"]
        return next(t for t in self.teachers if t.spec == spec and (t.dataset, t.teacher) == (run.dataset, run.teacher))

    @cached_property
    def _by_path(self) -> dict[str, Run]:
        return {run.path: run for run in (*self.teachers, *self.runs)}

    def at(self, path: str) -> Run:
        """Return the run whose published edge is `path` (below the results folder).

        Raises:
            InputError: If the plan has no such run.
        """
        if path not in self._by_path:
            raise InputError(
                f"{path}: no run of experiment {self.name} is published there{did_you_mean(path, self._by_path)}"
            )
        return self._by_path[path]

    def teacher_seed(self, seed: int) -> int:
        """Return the seed of the teacher that a student's seed learns from."""
        return seed if self.config.teacher_seed == "matched" else self.config.teacher_seed

    def data_identity(self, dataset: str) -> DataIdentity:
        """Return the identity of a dataset's tensors."""
        return next(DataIdentity.model_validate(t.identity["data"]) for t in self.teachers if t.dataset == dataset)

    def data_spec(self, dataset: str) -> str:
        """Return the hash of what determines a dataset's cached pixels."""
        data = self.data_identity(dataset).model_dump(mode="json")
        source = {"root": str(self.data_root(dataset)), "short_side": data.pop("input")["short_side"]}
        return sha256_of({**data, **source})

    def data_root(self, dataset: str) -> Path | None:
        """Return the folder where a dataset lies, None if it needs none."""
        root, base = self.config.datasets[dataset].root, self.config.data_root
        if root is None or base is None:
            return root or base
        return base / root

    @cached_property
    def _specs(self) -> dict[tuple[str, str | None, str | None, int], str]:
        return {
            (run.dataset, run.pair or run.teacher, run.method, run.seed): run.spec
            for run in (*self.teachers, *self.runs)
        }

    def spec_of_teacher(self, dataset: str, teacher: str, seed: int) -> str:
        """Return the spec of a teacher's run."""
        return self._specs[dataset, teacher, None, seed]

    def spec_of_students(self, dataset: str, pair: str, methods: Iterable[str], seed: int) -> str:
        """Return one hash for the students of a pack."""
        return sha256_of([self._specs[dataset, pair, method, seed] for method in methods])

    @property
    def cost_spec(self) -> str:
        """Hash of what determines the costs: networks, methods, sizes and numbers of images, frozen stages, no seed."""
        recipe = self.config.recipes[self.config.student_recipe]
        # A method may keep something of every image that is trained on.
        counted = recipe.model_dump(include={"held_out_fraction", "frozen_stages"}) or None
        without = {"seed": None, "teacher_spec": None, "recipe": counted}
        parts = [{**run.identity, **without} for run in self.runs]
        return sha256_of(sorted({sha256_of(part) for part in parts}))

    @property
    def speed_spec(self) -> str:
        """Hash of what determines the timings: networks, crops, batch sizes, threads, frozen stages, steps."""
        timed = {"epochs", "batch_size", "threads", "precision", "held_out_fraction", "frozen_stages"}
        names = (self.config.student_recipe, self.config.teacher_recipe)
        recipes = [self.config.recipes[name].model_dump(mode="json", include=timed) for name in names]
        networks = {
            sha256_of(
                [run.dataset, run.identity["data"]["input"]["crop"], name, model["architecture"], model["options"]]
            )
            for run in self.runs
            for name, model in ((run.student, run.identity["model"]), (run.teacher, run.identity["teacher_model"]))
        }
        sizes = [len(self.config.seeds), len(self.teachers), len(self.config.methods)]
        return sha256_of([sorted(networks), recipes, sizes, self.config.device])

    @property
    def report_spec(self) -> str:
        """Hash of what the tables show: rows in order, their runs, titles."""
        shown = [self.config.title, self.config.map_sources, self.config.reported, OVERLAP_VERSION]
        audit = [] if self.config.audit is None else [self.config.audit.model_dump(mode="json")]
        return sha256_of([*shown, *audit, [(run.path, run.spec) for run in (*self.teachers, *self.runs)]])

    def to_json(self) -> str:
        """Return the text of plan.json: what the jobs and the report read. Rows and datasets keep their order."""
        return json.dumps(
            {
                "experiment": self.name,
                "title": self.config.title,
                "config_file": self.config_file,
                "config": self.config.model_dump(mode="json"),
                "datasets": list(self.config.datasets),
                "pairs": [{"teacher": p.teacher, "student": p.student, "name": p.name} for p in self.config.pairs],
                "methods": list(self.config.methods),
                "seeds": list(self.config.seeds),
                "teacher_seed": self.config.teacher_seed,
                "packs": [asdict(pack) for pack in self.packs],
                "is_for_cluster": self.is_for_cluster,
                "teachers": [_run_record(run) for run in self.teachers],
                "runs": [_run_record(run) for run in self.runs],
            },
            separators=(",", ":"),
            allow_nan=False,
        )


def _run_record(run: Run) -> dict[str, Any]:
    return {**asdict(run), "pair": run.pair}


def make_plan(config: Experiment, *, config_file: str, jobs: int | None = None) -> Plan:
    """Expand an experiment into its runs and packs.

    Args:
        config: The experiment.
        config_file: Path of its file, for messages and captions; method files are relative to it.
        jobs: Jobs that can run at a time, for `students_per_job: auto`; None: one pack holds all methods.

    Raises:
        InputError: If a method, format or option is unknown or a file is missing; one line with the key path.
    """
    data = {
        name: identify_data(dataset, f"{config_file}: datasets.{name}") for name, dataset in config.datasets.items()
    }
    models = {name: identify_model(model, f"{config_file}: models.{name}") for name, model in config.models.items()}
    folder = Path(config_file).parent
    methods = {
        name: identify_method(name, row, config, folder, f"{config_file}: methods.{name}")
        for name, row in config.methods.items()
    }
    teachers: dict[str, Run] = {}
    runs: list[Run] = []
    for dataset in config.datasets:
        for pair in config.pairs:
            for seed in config.seeds:
                teacher = _teacher_run(config, dataset, pair.teacher, seed, data[dataset], models[pair.teacher])
                teachers.setdefault(teacher.path, teacher)
                for row in config.methods:
                    identity = Identity(
                        kind="student",
                        data=data[dataset],
                        model=models[pair.student],
                        recipe=config.recipes[config.student_recipe],
                        seed=seed,
                        engine_results_version=ENGINE_RESULTS_VERSION,
                        teacher_spec=teacher.spec,
                        teacher_model=models[pair.teacher],
                        stages=pair.stages,
                        method=methods[row],
                    )
                    path = f"{config.experiment}/{dataset}/{pair.name}/{row}/seed{seed}/metrics.json"
                    runs.append(_run(dataset, pair.teacher, pair.student, row, seed, path, identity))
    packs = _packs(config, jobs, at_most=None)
    return Plan(config, config_file, tuple(teachers.values()), tuple(runs), packs)


def for_cluster(plan: Plan, *, jobs: int | None, at_most: int | None) -> Plan:
    """Return the plan for jobs on other machines, with packs of `at_most` students where the plan may cut them."""
    return replace(plan, packs=_packs(plan.config, jobs, at_most=at_most), is_for_cluster=True)


def _packs(config: Experiment, jobs: int | None, *, at_most: int | None) -> tuple[Pack, ...]:
    groups = len(config.datasets) * len(config.pairs) * len(config.seeds)
    shares_devices = config.recipes[config.student_recipe].processes is None
    return cut_packs(
        tuple(config.methods),
        config.students_per_job if shares_devices else 1,
        groups=groups,
        num_jobs=jobs,
        are_alike=groups == len(config.seeds),
        at_most=at_most,
    )


def _run(
    dataset: str, teacher: str, student: str | None, method: str | None, seed: int, path: str, identity: Identity
) -> Run:
    record = identity.model_dump(mode="json")
    return Run(dataset, teacher, student, method, seed, sha256_of(record), path, record)


def _teacher_run(
    config: Experiment, dataset: str, name: str, seed: int, data: DataIdentity, model: ModelIdentity
) -> Run:
    teacher_seed = seed if config.teacher_seed == "matched" else config.teacher_seed
    identity = Identity(
        kind="teacher",
        data=data,
        model=model,
        recipe=config.recipes[config.teacher_recipe],
        seed=teacher_seed,
        engine_results_version=ENGINE_RESULTS_VERSION,
    )
    path = f"{config.experiment}/{dataset}/teachers/{name}/seed{teacher_seed}/teacher.json"
    return _run(dataset, name, None, None, teacher_seed, path, identity)


class StageDepth(Protocol):
    """What pairing needs to know of a stage; dctkd.models.StageInfo has it."""

    @property
    def index(self) -> int:
        """Position among the network's stages, from 0."""
        ...

    @property
    def reduction(self) -> int:
        """Input pixels per map position, along one side."""
        ...

    @property
    def kind(self) -> str:
        """Cnn or vit."""
        ...


def pair_stages(student: Sequence[StageDepth], teacher: Sequence[StageDepth]) -> tuple[tuple[int, int], ...]:
    """Pair the stages of two networks by depth.

    Convolutional networks match by reduction (4, 8, 16, 32; the last map at each); where one side is a ViT its blocks
    at equal depth fractions stand for these.

    Args:
        student: Stages, shallow to deep, stem excluded.
        teacher: Likewise.

    Returns:
        Pairs (student index, teacher index), shallow to deep; never empty.

    Raises:
        InputError: If no stage of one matches one of the other.

    Example:
        >>> from types import SimpleNamespace as Stage
        >>> resnet = [Stage(index=i, reduction=r, kind="cnn") for i, r in enumerate([4, 8, 16, 32])]
        >>> mobilenet = [Stage(index=i, reduction=r, kind="cnn") for i, r in enumerate([2, 4, 8, 16, 32])]
        >>> pair_stages(mobilenet, resnet)
        ((1, 0), (2, 1), (3, 2), (4, 3))
    """
    levels_s, levels_t = dict(_levels(student)), dict(_levels(teacher))
    common = sorted(set(levels_s) & set(levels_t))
    if not common:
        raise InputError(
            f"stages: student levels {sorted(levels_s)} and teacher levels {sorted(levels_t)} (log2 of the reduction) "
            "have none in common; give pairs.stages as a list of [student stage, teacher stage]"
        )
    return tuple((levels_s[level], levels_t[level]) for level in common)


def _levels(stages: Sequence[StageDepth]) -> Iterator[tuple[int, int]]:
    """Yield (level, stage index): the level is log2 of the reduction, or for a ViT 2 to 5 at quarters of its depth."""
    if stages and stages[0].kind == "vit":
        for quarter in (1, 2, 3, 4):
            yield quarter + 1, stages[max(math.ceil(len(stages) * quarter / 4) - 1, 0)].index
        return
    for stage in stages:  # a later stage at the same reduction replaces the earlier
        if stage.reduction in (4, 8, 16, 32):
            yield stage.reduction.bit_length() - 1, stage.index
