"""Thousands of runs are planned in time, and handed to a made-up batch system a few at a time."""

import resource

import pytest
import yaml

from benchmarks import dag_speed, submit_speed
from benchmarks.dag_speed import experiment_of_size
from benchmarks.settings import Setting
from benchmarks.submit_speed import Submission, submit

pytestmark = pytest.mark.slow


def test_ten_thousand_runs_are_planned_in_15_seconds(tmp_path):
    file = tmp_path / "many.yaml"
    file.write_text(yaml.safe_dump(experiment_of_size(9, 20, 56), sort_keys=False))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    dag_speed._dry_run(file)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Seconds of computing, for the clock of a machine that does other things too says nothing.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 15


def test_hundreds_of_jobs_are_submitted_with_never_more_open_than_asked_for():
    found = submit(1, 10, 20, students_per_job=1, at_most=16)
    assert found.num_jobs == 200 + 20 + 5  # students, overlaps; data, teacher, cost, speed, tables
    assert 8 <= found.most_open <= 16
    assert 50 < found.peak_mib < 500


def test_a_row_says_what_was_seen(monkeypatch):
    monkeypatch.setattr(submit_speed, "submit", lambda *size, students_per_job: Submission(1234, 99.6, 7.25, 64, 180.4))
    table = submit_speed.measure_submission(Setting(is_quick=True)).tables[0]
    assert table.rows == (("8", "1", "1,234", "100", "7.2", "64 of 64", "180"),)
