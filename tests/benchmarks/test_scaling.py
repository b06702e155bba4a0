"""The model behind docs/scaling.md, by sums done by hand, and the page itself."""

import doctest
from pathlib import Path

import pytest

from benchmarks import cluster_model
from benchmarks.cluster_model import ClusterJob, Delays, critical_path_s, simulate
from benchmarks.paper_cost import groups_of, packs_for
from benchmarks.scaling import PAGE, filled, jobs_of, plan_of, read_overheads

NONE = Delays(queue_s=0, start_s=0, notice_s=0, submit_s=0)
EACH = Delays(queue_s=5, start_s=3, notice_s=2, submit_s=0)
RESULTS = (Path(__file__).parents[2] / "benchmarks/results.md").read_text()


def test_the_page_shows_what_the_model_says_of_the_recorded_results():
    page = PAGE.read_text()
    assert filled(page, RESULTS) == page, 'stale: run make bench BENCH="--only scaling"'


def test_the_examples_in_docstrings_are_true():
    assert doctest.testmod(cluster_model).failed == 0


def test_gpus_share_jobs_and_each_job_has_its_delays():
    jobs = [ClusterJob(name, 10) for name in "abcd"]
    assert [simulate(jobs, gpus, EACH).wall_s for gpus in (1, 2, 4, 9)] == [80, 40, 20, 20]


def test_waiting_is_not_paid_for():
    assert simulate([ClusterJob("a", 10), ClusterJob("b", 10)], 1, EACH).gpu_s == 26


def test_jobs_without_a_gpu_take_none_and_cost_nothing():
    jobs = [ClusterJob("a", 10), ClusterJob("b", 10, has_gpu=False)]
    assert simulate(jobs, 1, NONE) == cluster_model.Outcome(wall_s=10, gpu_s=10, num_jobs=2)


def test_submission_takes_its_time():
    jobs = [ClusterJob(str(n), 10) for n in range(5)]
    assert simulate(jobs, 5, Delays(queue_s=0, start_s=0, notice_s=0, submit_s=2)).wall_s == 18


def test_priority_goes_before_the_order_of_the_plan():
    jobs = [ClusterJob("a", 1), ClusterJob("b", 9, priority=1), ClusterJob("c", 1, frozenset({"b"}))]
    assert simulate(jobs, 2, NONE).wall_s == 10
    late = [ClusterJob("a", 9), ClusterJob("b", 9), ClusterJob("c", 9, priority=1), ClusterJob("d", 9, frozenset("c"))]
    assert simulate(late, 2, NONE).wall_s == 18


def test_the_longest_chain_bounds_any_number_of_gpus():
    chain = [ClusterJob("a", 4), ClusterJob("b", 6, frozenset("a")), ClusterJob("c", 1)]
    assert critical_path_s(chain, EACH) == simulate(chain, 99, EACH).wall_s == 30


def test_a_job_that_waits_for_nobody_known_is_refused():
    with pytest.raises(ValueError, match="orphan waits for"):
        simulate([ClusterJob("orphan", 1, frozenset({"nobody"}))], 1, NONE)


def test_the_paper_experiment_has_the_jobs_that_its_rules_make():
    plan = plan_of("paper")
    packs = packs_for(plan, groups_of(plan), 8)
    jobs = jobs_of(plan, read_overheads(RESULTS), packs)
    # 3 datasets, 6 teachers, 27 groups of packs and an overlap each, cost, speed, tables
    assert len(jobs) == 3 + 6 + 27 * (len(packs) + 1) + 3
    assert len({job.name for job in jobs}) == len(jobs)
    assert [job.name for job in jobs if not job.has_gpu] == ["ade20k", "sun397", "mit67", "cost", "tables"]


def test_overheads_are_read_as_they_are_recorded():
    found = read_overheads(RESULTS)
    assert found.step["baseline"] == 1.0
    assert found.step.keys() == found.parameters.keys() >= {"kd", "semckd", "fam"}
    row = next(line for line in RESULTS.splitlines() if line.startswith("| review "))
    assert f" {found.step['review']:.3f} [" in row
    assert f" {found.parameters['review']:,} " in row


def test_results_without_the_table_of_methods_are_refused():
    with pytest.raises(ValueError, match="no table of what each method adds"):
        read_overheads("# nothing")


def test_a_page_without_the_place_of_a_table_is_refused():
    with pytest.raises(ValueError, match="expected the lines <!-- packs -->"):
        filled(PAGE.read_text().replace("<!-- packs -->", ""), RESULTS)
