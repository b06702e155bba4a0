"""Whole experiments in a folder of their own, without Snakemake."""

import copy
import hashlib
import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest
import torch

from dctkd.config import resolve
from dctkd.engine.interrupt import Interrupt
from dctkd.engine.job import make_job, run_job
from dctkd.engine.packing import publish_data
from dctkd.plan import make_plan
from dctkd.store import Store


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
        return make_plan(resolve(self.raw, where="tiny.yaml"), config_file=str(self.folder / "tiny.yaml"))

    @property
    def store(self):
        return Store(self.results)

    def prepare(self):
        """Pack the data and train the teachers."""
        plan = self.plan
        for dataset in plan.config.datasets:
            publish_data(plan, self.results / plan.name / dataset / "data.json", self.results, workers=1)
        for teacher in plan.teachers:
            run_job(make_job(plan, [teacher], self.results, device="cpu"), Interrupt())
        return self

    def train(self, *methods, interrupt=None):
        """Train the named rows (default: all) of each seed side by side in one job."""
        plan = self.plan
        wanted = [run for run in plan.runs if not methods or run.method in methods]
        for _, runs in groupby(wanted, key=lambda run: (run.dataset, run.pair, run.seed)):
            run_job(make_job(plan, list(runs), self.results, device="cpu"), interrupt or Interrupt())
        return self

    def metrics(self, method, seed=0):
        """Return the published metrics of a row."""
        run = next(run for run in self.plan.runs if (run.method, run.seed) == (method, seed))
        return json.loads((self.results / run.path).read_text())

    def store_folder(self, method):
        return self.store.path / self.metrics(method)["digest"]

    def bits(self):
        """Map every deterministic file below results/ to its hash."""
        names = {"metrics.json", "teacher.json", "predictions.parquet", "weights.safetensors", "history.jsonl"}
        paths = [path for path in sorted(self.results.rglob("*")) if path.name in names]
        hashes = {path.relative_to(self.results): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
        return {str(path): value for path, value in hashes.items()}


@pytest.fixture
def make_experiment(tmp_path):
    """Make experiments, each in a folder of its own; torch keeps its number of threads."""
    threads = torch.get_num_threads()

    def make(raw, name="a"):
        folder = tmp_path / name
        folder.mkdir()
        return Experiment(folder, copy.deepcopy(raw))

    yield make
    torch.set_num_threads(threads)
