"""A made-up results tree, written by the project's own writers, for the tests of the report."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dctkd.config import Experiment
from dctkd.plan import Plan, Run
from dctkd.provenance import sha256_of
from dctkd.store import RunFolder, Store, digest_of, write_json

from .evidence_files import NUM_IMAGES, write_config, write_history, write_predictions

EPOCHS = 12
STAGES = ("stage1", "stage2", "stage3", "stage4", "mean")


@dataclass
class MadeUp:
    """What the tree holds.

    `failures` maps (method, seed) to a status; `packed` is the number of students beside each; a row of `weights` is
    `at` with that weight; `accuracies` replaces the top-1 accuracy of (method, seed, stage, split).
    """

    root: Path
    experiment: str = "madeup"
    title: str = "numbers that nobody measured"
    datasets: Sequence[str] = ("scenes",)
    pairs: Sequence[tuple[str, str]] = (("wide", "narrow"),)
    methods: Sequence[str] = ("baseline", "kd", "at", "at+kd")
    seeds: Sequence[int] = (0, 1, 2)
    teacher_seed: int | str = 0
    failures: dict[tuple[str, int], str] = field(default_factory=dict)
    packed: int = 1
    joules: float | None = None
    environment: Callable[[int], dict[str, Any]] | None = None
    unpublished: frozenset[tuple[str, int]] = frozenset()
    absent: frozenset[tuple[str, int]] = frozenset()
    classes: Sequence[str] = ("attic", "bakery", "canal", "desert")
    reported: Sequence[str] = ()
    weights: dict[str, float] = field(default_factory=dict)
    accuracies: dict[tuple[str, int, str, str], float] = field(default_factory=dict)
    audit: dict[str, Any] | None = None
    versions: Callable[[Run], dict[str, Any]] = lambda run: {}

    @property
    def folder(self) -> Path:
        return self.root / "results" / self.experiment

    @property
    def store(self) -> Path:
        return self.root / "results" / "store"

    @property
    def target(self) -> Path:
        return self.root / "paper_tables" / self.experiment

    def edge(self, method: str, seed: int, dataset: str | None = None, pair: str | None = None) -> Path:
        names = (dataset or self.datasets[0], pair or "__".join(self.pairs[0]), method, f"seed{seed}")
        return self.folder.joinpath(*names, "metrics.json")

    def run_folder(self, method: str, seed: int) -> RunFolder:
        """Return the store's folder of the first run with this method and seed."""
        run = next(run for run in self.plan().runs if (run.method, run.seed) == (method, seed))
        return RunFolder(self.store / digest_of(run.spec))

    def teacher_edge(self, seed: int = 0) -> Path:
        return self.folder / self.datasets[0] / "teachers" / self.pairs[0][0] / f"seed{seed}" / "teacher.json"

    def plan(self) -> Plan:
        teachers: dict[str, Run] = {}
        runs = []
        for dataset in self.datasets:
            for teacher, student in self.pairs:
                for seed in self.seeds:
                    own = seed if self.teacher_seed == "matched" else int(self.teacher_seed)
                    path = f"{self.experiment}/{dataset}/teachers/{teacher}/seed{own}/teacher.json"
                    teachers.setdefault(path, _run(dataset, teacher, None, None, own, path))
                    for method in self.methods:
                        path = f"{self.experiment}/{dataset}/{teacher}__{student}/{method}/seed{seed}/metrics.json"
                        runs.append(_run(dataset, teacher, student, method, seed, path))
        teachers, runs = (tuple(map(self._versioned, one)) for one in (teachers.values(), runs))
        return Plan(self._config(), "config/madeup.yaml", teachers, runs, ())

    def _versioned(self, run: Run) -> Run:
        return replace(run, identity={**run.identity, **self.versions(run)})

    def _config(self) -> Experiment:
        recipe = {
            "epochs": EPOCHS,
            "batch_size": 64,
            "optimiser": {"name": "sgd", "lr": 0.1},
            "schedule": {"name": "constant"},
        }
        if self.audit:
            recipe |= {"held_out_fraction": 0.25, "evaluate_every_epochs": 1}
        models = {name: {"architecture": "resnet18"} for pair in self.pairs for name in pair}
        return Experiment.model_validate(
            {
                "experiment": self.experiment,
                "title": self.title,
                "datasets": {name: {"format": "synthscenes", "input": {"crop": 64}} for name in self.datasets},
                "models": models,
                "pairs": [{"teacher": teacher, "student": student} for teacher, student in self.pairs],
                "methods": {method: self._row(method) for method in self.methods},
                "reported": list(self.reported),
                "audit": self.audit,
                "recipes": {"short": recipe},
                "student_recipe": "short",
                "teacher_recipe": "short",
                "seeds": list(self.seeds),
                "teacher_seed": self.teacher_seed,
            }
        )

    def _row(self, method: str) -> dict[str, Any]:
        return {"method": "at", "weight": self.weights[method]} if method in self.weights else {}

    def write(self) -> MadeUp:
        plan = self.plan()
        self.folder.mkdir(parents=True)
        (self.folder / "plan.json").write_text(plan.to_json())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.fsync", lambda _: None)  # a made-up tree need not survive a power cut
            for number, run in enumerate((*plan.teachers, *plan.runs)):
                self._write_run(number, run)
        write_json(self.folder / "cost.json", self.cost())
        write_json(self.folder / "speed.json", self.speed())
        for number, dataset in enumerate(self.datasets):
            write_json(self.folder / dataset / "data.json", self.data(number))
        return self

    def data(self, number: int) -> dict[str, Any]:
        sizes = {"num_classes": len(self.classes), "num_train_images": 3000, "num_test_images": NUM_IMAGES}
        return {"fingerprint": f"f{number}" * 32, "cache": "cache/none", "classes": list(self.classes), **sizes}

    def speed(self) -> dict[str, Any]:
        """Latency in ms: the number of the network for 1 image, ten times that for 64."""
        names = dict.fromkeys(name for pair in self.pairs for name in pair)
        latency = {
            f"{dataset}/{name}": {
                size: {"median_seconds": i * scale, "p10_seconds": 0.9 * i * scale, "p90_seconds": 2 * i * scale}
                for size, scale in (("1", 0.001), ("64", 0.01))
            }
            for dataset in self.datasets
            for i, name in enumerate(names, start=1)
        }
        estimate = {"core_seconds": 7200.0, "macs": 10**12, "measured_on": {"cores": 1, "device": "cpu"}}
        return {"latency": latency, "estimate": estimate, "platform": an_environment()["platform"]}

    def cost(self) -> dict[str, Any]:
        students = {student: (5 + 4 * i) * 10**8 for i, (_, student) in enumerate(self.pairs)}
        teachers = {teacher: (40 + 4 * i) * 10**8 for i, (teacher, _) in enumerate(self.pairs)}
        models = {
            f"{dataset}/{name}": {"macs": macs, "parameters": 11_176_512 + i, "ignored_ops": {"aten::add_": 8}}
            for dataset in self.datasets
            for i, (name, macs) in enumerate((students | teachers).items())
        }
        methods = {
            f"{dataset}/{'__'.join(pair)}/{method}": {
                "extra_parameters": 1000 * i,
                "extra_macs": 2 * 10**6 * i,
                "checkpoint_bytes": 4096,
            }
            for dataset in self.datasets
            for pair in self.pairs
            for i, method in enumerate(self.methods)
        }
        return {"models": models, "methods": methods}

    def _write_run(self, number: int, run: Run) -> None:
        key = (run.method or "teacher", run.seed)
        if key in self.absent:
            return
        folder = RunFolder(self.store / digest_of(run.spec))
        status = self.failures.get(key, "ok")
        last = {"step": 40, "loss": 2.5, "gradient_norm": 7.25}
        detail = {} if status == "ok" else {"detail": {"epoch": 3, "reason": "made up", "last_finite": last}}
        kind = "student" if run.student else "teacher"
        results = self.results(run) if status == "ok" else []
        folder.finish(
            {"status": status, "spec": run.spec, "kind": kind, "run": run.names(), "results": results, **detail}
        )
        write_json(folder.path / "timing.json", self.timing(run))
        write_json(folder.path / "environment.json", self.environment(number) if self.environment else an_environment())
        if status == "ok":
            top1 = next(row["value"] for row in results if row["metric"] == "top1_percent")
            write_predictions(folder.path, top1, len(self.classes))
            write_history(folder.path, top1, EPOCHS)
        write_config(folder.path, run, "config/madeup.yaml")
        if key not in self.unpublished:
            Store(self.root / "results").publish(run, folder)

    def results(self, run: Run) -> list[dict[str, Any]]:
        draw = random.Random(f"{run.dataset} {run.teacher} {run.pair} {run.method} {run.seed}")
        gain = self.methods.index(run.method) / 4 if run.method else 8.0
        top1 = round(60 + 5 * self.datasets.index(run.dataset) + gain + draw.gauss(0, 0.6), 1)  # of 1000 images
        rows = [
            ("top1_percent", "last", "test", top1, "percent"),
            ("top1_percent", "best_on_test", "test", top1 + 5, "percent"),
            ("top1_percent", "best_held_out", "test", top1 + 6, "percent"),
            ("top1_percent", "last", "held_out", 1.0, "percent"),
            ("epoch", "best_held_out", "held_out", 2.0, "epochs"),
            ("top1_percent", "last", "train", 99.0, "percent"),
            ("top5_percent", "last", "test", min(top1 + 20, 100.0), "percent"),
            ("mca_present_percent", "last", "test", top1 - 3.25, "percent"),
            ("mca_all_percent", "last", "test", top1 - 9, "percent"),
            ("cross_entropy_nats", "last", "test", 1.3, "nats"),
        ]
        own = (run.method or "teacher", run.seed)
        given = {key[2:]: value for key, value in self.accuracies.items() if key[:2] == own}
        rows = [(m, st, sp, given.get((st, sp), v) if m == "top1_percent" else v, u) for m, st, sp, v, u in rows]
        if run.student:
            rows += [("overlap_ssim", stage, "test", 0.5 + draw.random() / 4, "1") for stage in STAGES]
        return [dict(zip(("metric", "stage", "split", "value", "unit"), row, strict=True)) for row in rows]

    def timing(self, run: Run) -> dict[str, Any]:
        return {
            "train_seconds": 120.5 + run.seed,
            "own_step_seconds": 100.0,
            "teacher_pass_seconds": 20.0 if run.student else 0.0,
            "wall_seconds": 180.0,
            "job_energy_joules": self.joules,
            "train_images_per_second": 512.25 + run.seed,
            "eval_seconds": 2.0,
            "peak_memory_bytes": 2**29,
            "students_in_pack": self.packed if run.student else 1,
            "device": "cpu",
            "threads": 1,
        }


def an_environment(commit: str = "0123456789abcdef0123", **platform: Any) -> dict[str, Any]:
    known = {
        "cpu_model": "Made-up CPU",
        "num_cores": 2,
        "device": "cpu",
        "precision": "bfloat16",
        "torch_build": "2.15",
    }
    return {"git_commit": commit, "git_dirty": False, "platform": {**known, **platform}}


def _run(dataset: str, teacher: str, student: str | None, method: str | None, seed: int, path: str) -> Run:
    return Run(dataset, teacher, student, method, seed, sha256_of(path), path, {"recipe": {"epochs": EPOCHS}})


@pytest.fixture
def made_up(tmp_path: Path) -> Callable[..., MadeUp]:
    """Return a function that writes a results tree."""
    return lambda **changes: MadeUp(tmp_path, **changes).write()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    """Return a complete small tree that no test changes: one dataset, one pair, four methods, three seeds."""
    return MadeUp(tmp_path_factory.mktemp("small")).write()


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    """Return a complete tree that no test changes: three datasets, three pairs."""
    pairs = (("r50", "r18"), ("r50", "mobile"), ("r152", "r34"))
    return MadeUp(tmp_path_factory.mktemp("wide"), datasets=("b", "a", "c"), pairs=pairs, seeds=(0, 1)).write()
