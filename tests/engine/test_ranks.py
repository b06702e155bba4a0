"""One run trained by several processes: the same experiment, and nothing left behind whatever ends it."""

import json
import math
import shutil
import signal
import subprocess
import sys
import threading

import psutil
import pyarrow.parquet as pq
import pytest
import timm
import torch
from safetensors.torch import load_file

from dctkd.data import batches as data_batches
from dctkd.data.cache import PixelCache
from dctkd.engine.interrupt import InterruptedRunError
from dctkd.engine.job import FailedRunsError

pytestmark = pytest.mark.slow

STRIKES = '''
"""A method with layers and random numbers that, when a file beside it says so, does harm in the second epoch."""
import json
import os
import signal
import time
from pathlib import Path

import psutil
import torch

from dctkd.methods.base import Method


class Strikes(Method):
    title, paper, year, features = "strikes", "none", 2026, "pooled"
    default_weight, default_weight_source = 1.0, "a test"

    def __init__(self, student, teacher, data, options):
        super().__init__(student, teacher, data, options)
        self.project = torch.nn.Linear(student.pooled_dim, teacher.pooled_dim)

    def forward(self, student, teacher, batch):
        noise = torch.rand_like(teacher.pooled_BD)
        term = batch.mean((self.project(student.pooled_BD) - teacher.pooled_BD * noise).square().mean(dim=1))
        return {"strikes": term * self.harm() if batch.epoch else term}

    def harm(self):
        order = Path(__file__).with_name("strike.json")
        rank, what = json.loads(order.read_text()) if order.exists() else (None, None)
        if os.environ.get("RANK") != str(rank):
            return 1.0
        if what == "diverge":
            return float("nan")
        if what.startswith("lock "):
            lock = Path(what.removeprefix("lock "))
            lock.write_text(json.dumps({**json.loads(lock.read_text()), "token": "of another"}))
            time.sleep(1.1)  # the lock is looked at by the clock
            return 1.0
        order.unlink()
        if what == "raise":
            raise ValueError("a fault in one process")
        if what == "memory":
            raise MemoryError("a lack in one process")
        member = psutil.Process()
        target = {"member": member, "agent": member.parent(), "job": member.parent().parent()}[what.split()[1]]
        target.send_signal(getattr(signal, what.split()[0]))
        if what == "SIGKILL member":
            signal.pause()
        return 1.0
'''

GROUPED = {"norm_layer": "groupnorm1", "channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
LAYERED = {**GROUPED, "norm_layer": "layernorm2d"}
TOLERANCE = 2e-5
"""Relative. Processes add the same float32 numbers in another order: 1e-7 per addition, a few hundred of them, and the
steps of SGD that follow carry the difference on."""


def tiny_with(processes, methods, norm):
    from tests.conftest import TINY

    recipe = {**TINY["recipes"]["short"], "precision": "float32", "evaluate_every_epochs": 1}
    if processes:
        recipe["processes"] = processes
    models = {name: {"architecture": "resnet18", "options": dict(norm)} for name in ("wide", "narrow")}
    models["narrow"]["options"]["drop_path_rate"] = 0.0
    return {"methods": methods, "recipes": {"short": recipe}, "models": models}


def with_teacher_of_one_process(changes):
    """Let the teacher be trained as always, which is quicker."""
    short = changes["recipes"]["short"]
    changes["recipes"]["alone"] = {k: v for k, v in short.items() if k not in ("processes", "synchronise_batch_norm")}
    return {**changes, "teacher_recipe": "alone"}


def curve(experiment, method):
    """Return what was recorded of a run, by (step, split, name)."""
    lines = (experiment.store_folder(method) / "history.jsonl").read_text().splitlines()
    return {(h["step"], h["split"], h["name"]): h["value"] for h in map(json.loads, lines)}


def teacher_curve(experiment):
    lines = (experiment.store.path / experiment.teacher_digest / "history.jsonl").read_text().splitlines()
    return {(h["step"], h["split"], h["name"]): h["value"] for h in map(json.loads, lines)}


def distance(one, other):
    assert one.keys() == other.keys()
    return max(abs(one[key] - other[key]) / max(abs(one[key]), 1e-6) for key in one)


METHODS = {"kd": None, "at": None, "vid": None}


@pytest.fixture(scope="module")
def alone(make_shared_experiment):
    return make_shared_experiment("alone", **tiny_with(None, METHODS, GROUPED)).prepare().train()


@pytest.fixture(scope="module")
def shared(make_shared_experiment):
    return make_shared_experiment("shared", **tiny_with(2, METHODS, GROUPED)).prepare().train()


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_give_the_curve_of_one(alone, shared, method):
    assert distance(curve(alone, method), curve(shared, method)) < TOLERANCE
    assert alone.metrics(method)["digest"] != shared.metrics(method)["digest"]


def test_a_teacher_trained_by_two_processes_has_the_curve_of_one(alone, shared):
    assert distance(teacher_curve(alone), teacher_curve(shared)) < TOLERANCE


def test_pieces_that_are_split_again_give_the_curve_of_one_process_and_whole_batches(make_shared_experiment):
    changes = with_teacher_of_one_process(tiny_with(2, {"vid": None}, LAYERED))
    changes["recipes"]["alone"]["clip_grad_norm"] = 5.0
    changes["recipes"]["short"] |= {"micro_batch": 3, "clip_grad_norm": 5.0}
    two = make_shared_experiment("split", **changes).prepare().train()
    one = make_shared_experiment("whole", **{**changes, "student_recipe": "alone"}).prepare().train()
    assert distance(curve(one, "vid"), curve(two, "vid")) < TOLERANCE


def test_processes_without_an_image_of_the_last_batch_change_nothing(make_shared_experiment, alone):
    changes = with_teacher_of_one_process(tiny_with(3, {"kd": None}, GROUPED))  # 50 images: the last batch has two
    three = make_shared_experiment("idle", **changes).prepare().train()
    assert three.teacher_digest == alone.teacher_digest
    assert distance(curve(alone, "kd"), curve(three, "kd")) < TOLERANCE


def test_every_process_tests_with_the_running_statistics_of_the_first(make_shared_experiment):
    options = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
    changes = with_teacher_of_one_process(tiny_with(2, {"kd": None}, options))
    changes["recipes"]["short"]["synchronise_batch_norm"] = False
    # In the last step the processes see different images, and there are two test batches, one for each.
    scenes = {"num_train_images": 56, "num_test_images": 300, "image_side": 36}
    changes["datasets"] = {
        "shapes": {"format": "synthscenes", "options": scenes, "input": {"crop": 32, "hflip": False}}
    }
    experiment = make_shared_experiment("statistics", **changes).prepare().train()
    folder = experiment.store_folder("kd")
    net = timm.create_model("resnet18", num_classes=12, **options).eval()
    net.load_state_dict(load_file(folder / "weights.safetensors"), strict=True)
    cache = PixelCache.open(next(experiment.results.glob("cache/*/fingerprint.json")).parent)
    batches = data_batches.test_batches(cache, experiment.plan.config.datasets["shapes"].input, batch_size=256)
    with torch.no_grad():
        found = [(net(batch.images_BCHW).softmax(dim=1), batch.target_B) for batch in batches]
    expected = torch.cat([probability_BK.gather(1, target_B[:, None])[:, 0] for probability_BK, target_B in found])
    published = torch.tensor(pq.read_table(folder / "predictions.parquet")["target_probability"].to_pylist())
    torch.testing.assert_close(published, expected, rtol=1e-5, atol=1e-7)  # threads of the two differ


def test_timing_tells_the_processes_and_their_images(shared):
    timing = json.loads((shared.store_folder("kd") / "timing.json").read_text())
    assert timing["processes"] == 2
    seconds = timing["train_seconds"]
    assert round(timing["train_images_per_second"] * seconds) == 100  # 50 images, 2 epochs


class Struck:
    """An experiment of two or three processes with the method that does harm, and its bits when left alone."""

    def __init__(self, experiment):
        self.experiment = experiment
        self.order = experiment.folder / "strike.json"
        (experiment.folder / "strikes.py").write_text(STRIKES)
        experiment.prepare().train()
        self.digest = experiment.metrics("strikes")["digest"]
        self.bits = self.bits_of_run()

    def bits_of_run(self):
        return {name: value for name, value in self.experiment.bits().items() if self.digest in name}

    def forget(self):
        """Make the student's run one that was never trained."""
        shutil.rmtree(self.experiment.store.path / self.digest)
        for edge in self.experiment.results.rglob("strikes/*/metrics.json"):
            edge.unlink()

    def strike(self, rank, what):
        self.forget()
        self.order.write_text(json.dumps([rank, what]))

    def state(self):
        return json.loads((self.experiment.store.path / self.digest / "state.json").read_text())

    def checkpoint_is_there(self):
        return (self.experiment.store.path / self.digest / "checkpoint.bin").exists()


def strikes_with(make_shared_experiment, name, processes):
    changes = tiny_with(processes, {"strikes": {"file": "strikes.py"}}, GROUPED)
    changes["models"]["narrow"]["options"]["drop_path_rate"] = 0.2
    changes = with_teacher_of_one_process(changes) | {"checkpoint_every_s": 1e-6}  # a checkpoint after every step
    return Struck(make_shared_experiment(name, **changes))


@pytest.fixture(scope="module")
def struck(make_shared_experiment):
    return strikes_with(make_shared_experiment, "struck", 2)


def members():
    """Return the members of any group that still live."""
    running = psutil.process_iter(["cmdline"])
    return [process for process in running if "dctkd.engine.member" in (process.info["cmdline"] or [])]


def test_a_killed_process_ends_the_others_and_the_run_goes_on_with_the_same_bits(struck, caplog):
    struck.strike(1, "SIGKILL member")
    with pytest.raises(FailedRunsError, match="1 of 1 runs crashed"):
        struck.experiment.train()
    reason = struck.state()["reason"]
    assert reason.startswith("rank 1 was killed by SIGKILL; the run goes on from its last checkpoint")
    assert sum(reason in record.getMessage() for record in caplog.records) == 1
    assert members() == []
    assert struck.checkpoint_is_there()
    struck.experiment.train()
    assert struck.bits_of_run() == struck.bits


def test_a_killed_agent_leaves_no_process_and_the_run_goes_on_with_the_same_bits(struck):
    struck.strike(0, "SIGKILL agent")
    with pytest.raises(FailedRunsError):
        struck.experiment.train()
    assert "agent" in struck.state()["reason"]
    assert members() == []
    struck.experiment.train()
    assert struck.bits_of_run() == struck.bits


def test_a_signal_to_one_process_stops_all_at_one_step(struck):
    struck.strike(1, "SIGTERM member")
    with pytest.raises(InterruptedRunError):
        struck.experiment.train()
    assert struck.checkpoint_is_there()
    struck.experiment.train()
    assert struck.bits_of_run() == struck.bits


def train_by_command(experiment):
    """Train the student as a job of Snakemake's does; return status and text."""
    plan = experiment.plan
    (experiment.results / plan.name / "plan.json").write_text(plan.to_json())
    command = ["-m", "dctkd", "train", "--plan", f"results/{plan.name}/plan.json", f"results/{plan.runs[0].path}"]
    done = subprocess.run(
        [sys.executable, *command], cwd=experiment.folder, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["SIGTERM"])
def test_a_signal_to_the_job_saves_at_the_step_and_the_run_goes_on_with_the_same_bits(struck, name):
    struck.strike(0, f"{name} job")
    status, text = train_by_command(struck.experiment)
    assert (status, text.count("Traceback")) == (75, 0)
    assert f"stopped by signal {signal.Signals[name].value}; run the same command again to go on" in text
    assert struck.checkpoint_is_there()
    assert members() == []
    assert train_by_command(struck.experiment)[0] == 0
    assert struck.bits_of_run() == struck.bits


def test_members_end_with_a_killed_job_and_the_run_goes_on_with_the_same_bits(struck):
    struck.strike(0, "SIGKILL job")
    assert train_by_command(struck.experiment)[0] == -signal.SIGKILL
    assert psutil.wait_procs(members(), 30)[1] == []
    assert train_by_command(struck.experiment)[0] == 0
    assert struck.bits_of_run() == struck.bits


def test_divergence_in_one_process_is_a_result(struck):
    struck.strike(1, "diverge")
    struck.experiment.train()
    struck.order.unlink()
    metrics = struck.experiment.metrics("strikes")
    assert metrics["status"] == "diverged"
    assert metrics["detail"]["step"] == 4
    assert metrics["detail"]["reason"] == "loss is nan in step 4", "the loss of the whole batch, in the other process"
    assert math.isfinite(metrics["detail"]["last_finite"]["loss"])
    assert metrics["detail"]["last_finite"]["step"] == 3
    assert not struck.checkpoint_is_there()


def test_a_fault_in_one_process_is_a_crash_with_its_reason(struck):
    struck.strike(1, "raise")
    with pytest.raises(FailedRunsError):
        struck.experiment.train()
    assert struck.state()["reason"] == "ValueError: a fault in one process"
    assert "a fault in one process" in (struck.experiment.store.path / struck.digest / "log.txt").read_text()


def test_a_lack_of_memory_in_one_process_is_a_result(struck):
    struck.strike(1, "memory")
    struck.experiment.train()
    metrics = struck.experiment.metrics("strikes")
    assert (metrics["status"], metrics["detail"]["step"]) == ("oom", 4)


def test_a_run_whose_lock_is_taken_over_is_left_to_the_other(struck, monkeypatch):
    folder = struck.experiment.store.path / struck.digest
    struck.strike(0, f"lock {folder / 'lock'}")
    seen = []

    def look_at_once(held):
        if threading.current_thread() is not threading.main_thread():
            return
        seen.append(held)
        held.is_lost = True  # as the next beat of the heart would find
        raise InterruptedRunError("the job waits for the other now")

    monkeypatch.setattr("dctkd.locks.Held.beat", look_at_once)
    with pytest.raises(InterruptedRunError, match="waits for the other"):
        struck.experiment.train()
    struck.order.unlink()
    assert len(seen) == 1
    assert not (folder / "metrics.json").exists()
    assert json.loads((folder / "state.json").read_text())["status"] == "running"


def test_three_processes_go_on_with_the_same_bits(make_shared_experiment):
    three = strikes_with(make_shared_experiment, "three", 3)
    three.strike(2, "SIGKILL member")
    with pytest.raises(FailedRunsError):
        three.experiment.train()
    three.experiment.train()
    assert three.bits_of_run() == three.bits
