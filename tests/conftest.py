"""What holds for every test, and whole experiments in a folder of their own, without Snakemake."""

import copy
import hashlib
import json
import os
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items):
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


TINY = {
    "experiment": "tiny",
    "title": "A tiny experiment",
    "datasets": {
        "shapes": {
            "format": "synthscenes",
            "options": {"num_train_images": 50, "num_test_images": 24, "image_side": 36},
            "input": {"crop": 32, "hflip": False},
        }
    },
    "models": {
        "wide": {"architecture": "resnet18", "options": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}},
        "narrow": {"architecture": "resnet18", "options": {"layers": [1, 1, 1, 1], "channels": [4, 4, 8, 8]}},
    },
    "pairs": [{"teacher": "wide", "student": "narrow"}],
    "methods": {"baseline": None, "kd": None, "at": None},
    "recipes": {
        "short": {
            "epochs": 2,
            "batch_size": 16,
            "optimiser": {"name": "sgd", "lr": 0.05},
            "schedule": {"name": "cosine", "warmup_epochs": 0.5},
        }
    },
    "student_recipe": "short",
    "teacher_recipe": "short",
    "seeds": [0],
}


@pytest.fixture
def tiny():
    """A valid experiment that trains in about a second, as the mapping that YAML would give; change it at will."""
    return copy.deepcopy(TINY)


@dataclass
class Experiment:
    """An experiment and its results folder."""

    folder: Path
    raw: dict

    @property
    def results(self):
        return self.folder / "results"

    @property
    def plan(self):
        from dctkd.config import resolve
        from dctkd.plan import make_plan

        return make_plan(resolve(self.raw, where="tiny.yaml"), config_file=str(self.folder / "tiny.yaml"))

    @property
    def store(self):
        from dctkd.store import Store

        return Store(self.results)

    def prepare_data(self):
        """Pack the data."""
        from dctkd.engine.packing import publish_data

        plan = self.plan
        for dataset in plan.config.datasets:
            publish_data(plan, self.results / plan.name / dataset / "data.json", self.results, workers=1)
        return self

    def prepare(self):
        """Pack the data and train the teachers."""
        from dctkd.engine.interrupt import Interrupt
        from dctkd.engine.job import make_job, run_job

        self.prepare_data()
        plan = self.plan
        for teacher in plan.teachers:
            run_job(make_job(plan, [teacher], self.results, device="cpu"), Interrupt())
        return self

    def train(self, *methods, interrupt=None):
        """Train the named rows (default: all) of each seed side by side in one job."""
        from dctkd.engine.interrupt import Interrupt
        from dctkd.engine.job import make_job, run_job

        plan = self.plan
        wanted = [run for run in plan.runs if not methods or run.method in methods]
        for _, runs in groupby(wanted, key=lambda run: (run.dataset, run.pair, run.seed)):
            run_job(make_job(plan, list(runs), self.results, device="cpu"), interrupt or Interrupt())
        return self

    def metrics(self, method, seed=0):
        """Return the published metrics of a row."""
        run = next(run for run in self.plan.runs if (run.method, run.seed) == (method, seed))
        return json.loads((self.results / run.path).read_text())

    def store_folder(self, method, seed=0):
        return self.store.path / self.metrics(method, seed)["digest"]

    @property
    def teacher_digest(self):
        """Digest of the first teacher's run."""
        return json.loads((self.results / self.plan.teachers[0].path).read_text())["digest"]

    def bits(self):
        """Map every deterministic file below results/ to its hash."""
        names = {"metrics.json", "teacher.json", "predictions.parquet", "weights.safetensors", "history.jsonl"}
        paths = [path for path in sorted(self.results.rglob("*")) if path.name in names]
        hashes = {path.relative_to(self.results): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
        return {str(path): value for path, value in hashes.items()}


@pytest.fixture
def make_experiment(tmp_path):
    """Make experiments, each in a folder of its own; torch keeps its number of threads."""
    import torch

    threads = torch.get_num_threads()

    def make(raw, name="a"):
        folder = tmp_path / name
        folder.mkdir()
        return Experiment(folder, copy.deepcopy(raw))

    yield make
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def make_shared_experiment(tmp_path_factory):
    """Make tiny experiments, but for the given keys, that a module's tests share and leave as they were."""
    import torch

    threads = torch.get_num_threads()

    def make(name, **changes):
        return Experiment(tmp_path_factory.mktemp(name), {**copy.deepcopy(TINY), **changes})

    yield make
    torch.set_num_threads(threads)
