"""What a pack promises: its students end with the bits of students trained alone, and one's failure is its own."""

import itertools
import json
import math

import pytest

from dctkd.engine.checkpoint import checkpoints, save_checkpoint
from dctkd.engine.interrupt import Interrupt, InterruptedRunError
from dctkd.engine.job import FailedRunsError
from dctkd.methods import METHODS

DRAWS_NUMBERS = '''
"""A method that draws random numbers in its forward."""
import torch
from dctkd.methods.base import Method

class Noisy(Method):
    title, paper, year, features = "noisy", "none", 2026, "pooled"
    default_weight, default_weight_source = 1.0, "a test"

    def __init__(self, student, teacher, data, options):
        super().__init__(student, teacher, data, options)
        self.project = torch.nn.Linear(student.pooled_dim, teacher.pooled_dim)

    def forward(self, student, teacher, batch):
        noise = torch.rand_like(teacher.pooled_BD)
        return {"noisy": batch.mean((self.project(student.pooled_BD) - teacher.pooled_BD * noise).square().mean(dim=1))}
'''


def with_every_method(raw, folder):
    (folder / "noisy.py").write_text(DRAWS_NUMBERS)
    rows = {name: None for name in METHODS} | {f"{name}+kd": None for name in METHODS if name not in ("baseline", "kd")}
    raw["methods"] = {**rows, "noisy": {"file": "noisy.py"}}
    raw["models"]["narrow"]["options"]["drop_path_rate"] = 0.2
    raw["models"]["narrow"]["options"]["drop_rate"] = 0.1
    return raw


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "precision"), [(1, "float32"), (2, "bfloat16")])
def test_a_pack_ends_with_the_bits_of_its_students_trained_alone(make_experiment, tiny, threads, precision):
    tiny["recipes"]["short"] |= {"threads": threads, "precision": precision}
    together, alone = make_experiment(tiny, "together"), make_experiment(tiny, "alone")
    for experiment in (together, alone):
        with_every_method(experiment.raw, experiment.folder)
        experiment.prepare()
    together.train()
    for method in reversed(alone.raw["methods"]):
        alone.train(method)
    assert together.bits() == alone.bits()
    assert len(together.bits()) > 3 * len(METHODS)


def test_a_second_run_from_an_empty_store_gives_identical_metrics(make_experiment, tiny):
    first = make_experiment(tiny, "first").prepare().train()
    second = make_experiment(tiny, "second").prepare().train()
    assert first.bits() == second.bits()


def test_students_of_a_seed_start_from_one_network_and_methods_tell_them_apart(make_experiment, tiny):
    experiment = make_experiment(tiny).prepare().train()
    hashes = {method: experiment.metrics(method)["weights_sha256"] for method in tiny["methods"]}
    assert len(set(hashes.values())) == 3
    tiny["recipes"]["untrained"] = {**tiny["recipes"]["short"], "epochs": 0}
    tiny["student_recipe"] = "untrained"
    untrained = make_experiment(tiny, "untrained").prepare().train()
    assert len({untrained.metrics(method)["weights_sha256"] for method in tiny["methods"]}) == 1


# Statistics that are frozen from the second epoch on depend on which epoch a resumed run is in.
FROZEN = {"method": "semckd", "weight": 0.1, "options": {"freeze_batch_norm": True, "mid_channels": 8}}


@pytest.mark.parametrize(
    "rows", [{"baseline": None, "at+kd": None}, {"baseline": None, "frozen": FROZEN}], ids=" ".join
)
def test_a_pack_that_is_stopped_again_and_again_ends_with_the_same_bits(make_experiment, tiny, rows):
    tiny["methods"] = rows
    tiny["models"]["narrow"]["options"]["drop_path_rate"] = 0.2
    tiny["recipes"]["short"]["evaluate_every_epochs"] = 1
    straight = make_experiment(tiny, "straight").prepare().train()
    resumed = make_experiment(tiny, "resumed").prepare()
    num_stops = 0
    # It asks twice while it builds, once a step, and once a batch of each test: so it is stopped at every such place.
    for asks in itertools.cycle([1, 3, 4]):
        try:
            resumed.train(interrupt=stop_after(asks))
        except InterruptedRunError:
            num_stops += 1
            assert num_stops < 50
        else:
            break
    assert num_stops > 8
    assert resumed.bits() == straight.bits()
    assert list(resumed.store.path.glob("*/checkpoint*")) == []


def test_a_job_that_is_asked_to_stop_saves_each_of_its_runs(make_experiment, tiny):
    experiment = make_experiment(tiny).prepare()
    with pytest.raises(InterruptedRunError):
        experiment.train("kd", "at", interrupt=stop_after(5))
    assert len(list(experiment.store.path.glob("*/checkpoint.bin"))) == 2


def test_a_checkpoint_that_does_not_fit_is_left_and_the_run_starts_anew(make_experiment, tiny, caplog):
    straight = make_experiment(tiny, "straight").prepare().train("kd")
    other = make_experiment(tiny, "other").prepare()
    with pytest.raises(InterruptedRunError):
        other.train("kd", interrupt=stop_after(4))
    folder = next(path.parent for path in other.store.path.glob("*/checkpoint.bin"))
    state = next(checkpoints(folder, digest=folder.name))
    del state["optimiser"]
    save_checkpoint(folder, state)
    save_checkpoint(folder, state)
    other.train("kd")
    assert "does not fit this version" in caplog.text
    assert other.bits() == straight.bits()


def test_a_pack_whose_members_stand_at_different_steps_ends_with_the_same_bits(make_experiment, tiny):
    straight = make_experiment(tiny, "straight").prepare().train()
    resumed = make_experiment(tiny, "resumed").prepare()
    with pytest.raises(InterruptedRunError):
        resumed.train("at", interrupt=stop_after(5))
    with pytest.raises(InterruptedRunError):
        resumed.train("kd", interrupt=stop_after(2))
    resumed.train()
    assert resumed.bits() == straight.bits()


def test_members_that_stand_at_one_step_with_and_without_its_test_end_with_the_same_bits(make_experiment, tiny):
    tiny["recipes"]["short"]["evaluate_every_epochs"] = 1
    straight = make_experiment(tiny, "straight").prepare().train()
    resumed = make_experiment(tiny, "resumed").prepare()
    for method, asks in (
        ("at", 5),
        ("kd", 6),
    ):  # a build, three steps; the fifth is asked in the test
        with pytest.raises(InterruptedRunError):
            resumed.train(method, interrupt=stop_after(asks))
    resumed.train()
    assert resumed.bits() == straight.bits()


class stop_after(Interrupt):  # noqa: N801 (reads as a verb)
    """An interrupt that asks to stop after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    @property
    def requested(self):
        self.left -= 1
        return self.left <= 0


BREAKS = """
import torch
from dctkd.methods.base import Method

class Breaks(Method):
    title, paper, year, features = "breaks", "none", 2026, "logits"
    default_weight, default_weight_source = 1.0, "a test"

    def forward(self, student, teacher, batch):
        {body}
"""


def broken(tiny, folder, body):
    (folder / "breaks.py").write_text(BREAKS.replace("{body}", body))
    tiny["methods"] = {"baseline": None, "breaks": {"file": "breaks.py"}, "kd": None}


def test_a_crashing_student_leaves_the_others_finished_and_their_bits_alone(make_experiment, tiny):
    reference = make_experiment(tiny, "reference").prepare().train("baseline", "kd")
    experiment = make_experiment(tiny, "broken")
    broken(experiment.raw, experiment.folder, "return {} if batch.epoch == 0 else 1 / 0")
    experiment.prepare()
    with pytest.raises(FailedRunsError, match=r"1 of 3 runs crashed: .*breaks"):
        experiment.train()
    for method in ("baseline", "kd"):
        assert experiment.metrics(method) == reference.metrics(method)
    failed = [folder.state() for folder in experiment.store.folders() if folder.state().get("status") == "failed"]
    assert [state["reason"] for state in failed] == ["ZeroDivisionError: division by zero"]


def test_divergence_is_a_result_that_stops_one_student_before_the_step(make_experiment, tiny):
    reference = make_experiment(tiny, "reference").prepare().train("baseline", "kd")
    experiment = make_experiment(tiny, "broken")
    bad = "return {'bad': student.logits_BK.float().sum() * (float('nan') if batch.epoch else 1e-6)}"
    broken(experiment.raw, experiment.folder, bad)
    experiment.prepare().train()
    diverged = experiment.metrics("breaks")
    assert (diverged["status"], diverged["results"]) == ("diverged", [])
    assert diverged["detail"]["epoch"] == 1
    assert diverged["detail"]["step"] == 4
    assert diverged["detail"]["last_finite"]["step"] == 3
    assert math.isfinite(diverged["detail"]["last_finite"]["loss"])
    assert diverged["detail"]["last_finite"]["gradient_norm"] > 0
    for method in ("baseline", "kd"):
        assert experiment.metrics(method) == reference.metrics(method)


def test_a_teacher_that_diverged_stops_its_students_with_one_line(make_experiment, tiny):
    tiny["recipes"]["wild"] = {**tiny["recipes"]["short"], "optimiser": {"name": "sgd", "lr": 1e30}}
    tiny["teacher_recipe"] = "wild"
    experiment = make_experiment(tiny).prepare()
    with pytest.raises(ValueError, match="teacher's status is diverged"):
        experiment.train()


def test_a_finished_run_leaves_config_environment_history_predictions_and_no_checkpoint(make_experiment, tiny):
    experiment = make_experiment(tiny).prepare().train()
    folder = experiment.store_folder("at")
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.yaml",
        "environment.json",
        "files.json",
        "history.jsonl",
        "log.txt",
        "metrics.json",
        "predictions.parquet",
        "timing.json",
        "weights.safetensors",
    }
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert {(h["epoch"], h["name"]) for h in history} >= {
        (1, "loss"),
        (2, "ce"),
        (2, "top1_percent"),
        (1, "lr"),
    }
    assert any(h["name"] == "stage1" for h in history), "the terms of the method have lines of their own"
    assert all(set(h) == {"step", "epoch", "split", "name", "value", "unit"} for h in history)
    assert len((folder / "log.txt").read_text().splitlines()) == 2


@pytest.mark.parametrize(("keep", "kept"), [("none", set()), ("last", {"weights.safetensors"})])
def test_weights_are_kept_as_asked_and_the_metrics_are_the_same(make_experiment, tiny, keep, kept):
    tiny["keep_weights"] = keep
    experiment = make_experiment(tiny).prepare().train("kd")
    folder = experiment.store_folder("kd")
    assert {path.name for path in folder.glob("weights*")} == kept
    assert len(experiment.metrics("kd")["weights_sha256"]) == 64


def test_the_best_epoch_on_the_test_set_is_reported_under_its_own_name(make_experiment, tiny):
    tiny["keep_weights"] = "all"
    tiny["recipes"]["short"]["evaluate_every_epochs"] = 1
    experiment = make_experiment(tiny).prepare().train("kd")
    stages = {r["stage"]: r["value"] for r in experiment.metrics("kd")["results"] if r["metric"] == "top1_percent"}
    assert set(stages) == {"last", "best_on_test"}
    assert stages["best_on_test"] >= stages["last"]
    assert (experiment.store_folder("kd") / "weights_best_on_test.safetensors").exists()


def test_exported_weights_are_a_plain_timm_checkpoint(make_experiment, tiny):
    import timm
    from safetensors.torch import load_file

    experiment = make_experiment(tiny).prepare().train("kd")
    options = {key: tuple(value) for key, value in tiny["models"]["narrow"]["options"].items()}
    net = timm.create_model("resnet18", num_classes=12, **options)
    net.load_state_dict(load_file(experiment.store_folder("kd") / "weights.safetensors"), strict=True)


def test_a_second_experiment_shares_what_is_there_and_trains_only_what_is_new(make_experiment, tiny):
    first = make_experiment(tiny).prepare().train()
    before = {folder.digest for folder in first.store.folders()}
    times = {path: path.stat().st_mtime_ns for path in first.results.rglob("metrics.json")}
    first.raw = {**tiny, "experiment": "second", "methods": {"kd": None, "at": None, "dct": None}}
    first.prepare().train()
    assert len({folder.digest for folder in first.store.folders()} - before) == 1
    assert {path: path.stat().st_mtime_ns for path in times} == times


class KilledError(BaseException):
    """Stands for SIGKILL: nothing runs after it."""


@pytest.mark.parametrize("steps", [3, 4, 6])
def test_a_run_that_was_killed_after_a_timed_checkpoint_ends_with_the_same_bits(
    make_experiment, tiny, steps, monkeypatch
):
    from dctkd.engine.pack import _Pack

    tiny["methods"] = {"at+kd": None}
    tiny["checkpoint_every_s"] = 1e-6
    straight = make_experiment(tiny, "straight").prepare().train()
    resumed = make_experiment(tiny, "resumed").prepare()
    after_step = _Pack._after_step

    def killed(self, group):
        after_step(self, group)
        if group[0].step == steps:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(_Pack, "_after_step", killed)
        with pytest.raises(KilledError):
            resumed.train()
    resumed.train()
    assert resumed.bits() == straight.bits()
