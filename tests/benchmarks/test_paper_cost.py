"""The cost model against sums done by hand."""

import doctest

import pytest

from benchmarks import paper_cost
from benchmarks.paper_cost import (
    Group,
    Job,
    Rates,
    groups_of,
    makespan,
    overhead_of,
    pack_seconds,
    packs_for,
    student_jobs,
    teacher_jobs,
)
from benchmarks.paper_rates import CONFIG, RTX3090, rates_of_a_core
from dctkd.config import load
from dctkd.plan import make_plan

RATES = Rates(train={"big": 10.0, "small": 100.0}, forward={"big": 50.0, "small": 200.0})
GROUP = Group("teacher", ("big", "small"), num_train=1000, num_tested=400, rows=("kd", "at"))
OVERHEADS = {"baseline": 1.0, "kd": 1.1, "at": 1.5}


@pytest.fixture(scope="module")
def plan():
    return make_plan(load(CONFIG, {"data_root": "."}), config_file=str(CONFIG))


def test_a_student_alone_pays_teacher_step_overhead_and_tests():
    # 1000 images: 1/50 teacher, 1/100 step, 0.1 (1/100 + 1/50) overhead; 400 tested at 200/s.
    assert pack_seconds(GROUP, RATES, OVERHEADS, ["kd"]) == pytest.approx(20 + 10 + 3 + 2)


def test_a_pack_pays_the_teacher_once():
    together = pack_seconds(GROUP, RATES, OVERHEADS, ["kd", "at"])
    alone = sum(pack_seconds(GROUP, RATES, OVERHEADS, [row]) for row in ("kd", "at"))
    assert alone - together == pytest.approx(20)


def test_a_row_with_kd_has_the_overheads_of_both_and_noise_below_the_baseline_counts_nothing():
    assert overhead_of("at+kd", {"at": 1.5, "kd": 1.25}) == 0.75
    assert overhead_of("baseline", {"baseline": 0.98}) == 0


def test_the_examples_in_docstrings_are_true():
    assert doctest.testmod(paper_cost) == (0, 2)


def test_jobs_wait_for_their_teacher():
    jobs = [Job("teacher", 2), Job("a", 3, after="teacher"), Job("b", 3, after="teacher")]
    assert [makespan(jobs, devices) for devices in (1, 2, 9)] == [8, 5, 5]


def test_the_longest_job_that_can_start_goes_first():
    jobs = [Job("short", 1), Job("long", 4), Job("middle", 3)]
    assert makespan(jobs, 2) == 4


def test_a_job_that_waits_for_nobody_known_is_refused():
    with pytest.raises(ValueError, match="orphan waits for nobody"):
        makespan([Job("orphan", 1, after="nobody")], 1)


def test_the_paper_experiment_has_27_groups_of_20_rows_and_6_teachers(plan):
    groups = groups_of(plan)
    assert (len(groups), {len(group.rows) for group in groups}) == (27, {20})
    assert len(teacher_jobs(plan, RTX3090)) == 6
    assert {group.networks for group in groups} == {
        ("resnet50", "resnet18"),
        ("resnet152", "resnet34"),
        ("resnet50", "mobilenetv2_100"),
    }


def test_image_counts_are_the_official_ones_times_epochs_and_tests(plan):
    # ADE20K, SUN397, MIT67; 70 epochs, a test after each and one at the end.
    sizes = {(20210 * 70, 2000 * 71), (19850 * 70, 19850 * 71), (5360 * 70, 1340 * 71)}
    assert {(group.num_train, group.num_tested) for group in groups_of(plan)} == sizes


def test_every_group_has_a_job_for_each_pack_after_its_own_teacher(plan):
    groups, packs = groups_of(plan), (("kd", "at"), ("baseline",))
    jobs = student_jobs(groups, RTX3090, OVERHEADS, packs)
    assert len(jobs) == 54
    assert {job.after for job in jobs} == {job.name for job in teacher_jobs(plan, RTX3090)}


def test_one_device_gets_one_pack_of_all_rows(plan):
    assert packs_for(plan, groups_of(plan), 1) == (tuple(plan.config.methods),)


@pytest.mark.slow
def test_a_core_is_timed_for_every_network():
    like = Rates({"resnet18": 1.0}, {"resnet18": 1.0})
    rates = rates_of_a_core(like, "float32", input_size=32)
    assert 0 < rates.train["resnet18"] < rates.forward["resnet18"]
