"""Every loop that is timed runs, on tiny networks, and does what it claims to time."""

import math

import pytest
import torch

from benchmarks import pack_speed, step_speed, time_split
from benchmarks.ratios import Ratio
from benchmarks.settings import Setting
from benchmarks.workbench import TINY, experiment_of, temporary_pack

QUICK = Setting(is_quick=True)


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pack():
    with temporary_pack(experiment_of(TINY, {"kd": None, "at": None}, threads=1)) as made:
        yield made


def test_a_step_of_some_learners_moves_these_and_no_others(pack):
    first, second = pack.learners
    before = (first.step, second.step)
    assert pack.step_of(first)() > 0
    assert (first.step, second.step) == (before[0] + 1, before[1])
    pack.step_of(first, second)()
    assert (first.step, second.step) == (before[0] + 2, before[1] + 1)


def test_a_pack_runs_the_teacher_once_for_all(pack, monkeypatch):
    passes = []
    monkeypatch.setattr(torch.nn.Module, "__call__", _counting(passes, torch.nn.Module.__call__, pack.learners))
    pack.step_of(*pack.learners)()
    assert len(passes) == 1


def _counting(passes, call, learners):
    """Count whole forward passes of networks that are no student's."""
    students = {id(learner.model) for learner in learners}

    def counted(module, *arguments, **keywords):
        if type(module).__name__ == "StageModel" and id(module) not in students:
            passes.append(module)
        return call(module, *arguments, **keywords)

    return counted


def test_a_learner_that_failed_while_it_was_timed_is_told():
    with temporary_pack(experiment_of(TINY, {"kd": None}, threads=1)) as made:
        made.learners[0].fail(FloatingPointError("loss is nan"))
        with pytest.raises(RuntimeError, match="loss is nan"):
            made.require_running()


def test_the_bare_step_is_that_of_our_row_kd(pack):
    logits_BK, teacher_BK = torch.randn(4, 12), torch.randn(4, 12)
    target_B = torch.arange(4)
    objective = pack.learners[0].objective
    log_p, log_q = (torch.log_softmax(x.double() / 4, 1) for x in (teacher_BK, logits_BK))
    kl = 16 * (log_p.exp() * (log_p - log_q)).sum(1).mean()
    ce = -torch.log_softmax(logits_BK.double(), 1)[torch.arange(4), target_B].mean()
    expected = objective.weights.ce * ce + objective.weights.weight * kl
    assert step_speed._loss(logits_BK, target_B, teacher_BK).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("with_teacher", [False, True])
def test_the_bare_step_trains(with_teacher):
    assert step_speed.bare_step(TINY, "float32", with_teacher=with_teacher)() > 0


def test_the_split_of_a_step_adds_up_to_the_step():
    parts = time_split.split_step(TINY, "kd")
    step = parts.pop("step")
    assert sum(parts.values()) == pytest.approx(step)
    assert all(parts[part] > 0 for part in time_split.PARTS)
    assert parts["other"] > 0


def test_a_stopwatch_counts_only_what_came_after_its_restart():
    watch = time_split.Stopwatch()
    watch.around("loader", lambda: None)()
    watch.restart()
    watch.steps, watch.seconds = 4, {"teacher": 2.0}
    milliseconds = watch.milliseconds(total_s=10.0)
    assert (milliseconds["loader"], milliseconds["teacher"], milliseconds["other"]) == (0, 500, 2000)
    assert milliseconds["step"] == 2500


def test_students_alone_and_in_a_pack_are_timed_step_by_step():
    ratio, milliseconds = pack_speed._measure({"kd": None, "at": None}, "two methods", 1, QUICK)
    assert ratio.low <= ratio.high < math.inf
    assert ratio.at_least == 1.35
    assert [value > 0 for value in milliseconds] == [True] * 3


def test_packs_are_compared_on_one_and_two_threads_and_shown_per_student(monkeypatch):
    def measure(rows, what, threads, setting):
        return Ratio(f"{what}, {threads}", 1.5, 1.4, 1.6), [100.0 / threads] * len(rows) + [480.0]

    monkeypatch.setattr(pack_speed, "_measure", measure)
    section = pack_speed.measure_packs(QUICK)
    assert [ratio.name for ratio in section.ratios] == [
        "eight methods, 1",
        "eight methods, 2",
        "kd eight times, 1",
        "kd eight times, 2",
    ]
    assert section.tables[0].rows[0] == ("baseline", "100.0", "50.0")
    assert section.tables[0].rows[-1][1:] == ("60.0", "60.0")
