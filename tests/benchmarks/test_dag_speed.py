"""The dry runs that are timed plan as many runs as they say."""

import pytest

from benchmarks import dag_speed
from benchmarks.dag_speed import SIZES, experiment_of_size, growth, num_jobs
from dctkd.config import resolve
from dctkd.plan import make_plan


@pytest.mark.parametrize(("size", "num_runs"), list(zip(SIZES, (33, 540, 1980, 9900), strict=True)))
def test_an_experiment_has_as_many_runs_as_its_size_says(size, num_runs):
    combinations, methods, seeds = size
    assert combinations * methods * seeds == num_runs
    small = make_plan(resolve(experiment_of_size(combinations, methods, 1), where="size.yaml"), config_file="size.yaml")
    assert len(small.runs) * seeds == num_runs


def test_jobs_are_read_from_what_a_dry_run_prints():
    assert num_jobs("job  count\n----  -----\nall       1\ntotal    94\n\nReasons:") == 94


def test_a_dry_run_that_lists_no_jobs_is_refused():
    with pytest.raises(ValueError, match="listed no jobs"):
        num_jobs("Nothing to be done.")


def test_growth_is_the_slope_between_the_paper_experiment_and_the_largest():
    assert growth([(33, 9.0), (540, 2.0), (1980, 2.5), (5540, 7.0)]) == "Each further run costs 1.00 ms."


@pytest.mark.slow
def test_a_dry_run_is_timed_and_its_jobs_counted(monkeypatch):
    from benchmarks.settings import Setting

    monkeypatch.setattr(dag_speed, "SIZES", ((1, 2, 2),))
    (row,) = dag_speed.measure_dag(Setting(is_quick=True)).tables[0].rows
    assert row[0] == "4"
    assert int(row[1]) >= 8
    assert float(row[2]) > 0
