"""What Snakemake counts for a run of several processes."""

import re
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dry_run(make_workplace):
    """Return the text of a dry run with the given device."""
    from tests.conftest import TINY

    options = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "norm_layer": "groupnorm1"}
    models = {name: {"architecture": "resnet18", "options": options} for name in ("wide", "narrow")}
    short = TINY["recipes"]["short"]
    recipes = {"teachers": {**short, "threads": 3}, "students": {**short, "threads": 2, "processes": 2}}
    names = {"teacher_recipe": "teachers", "student_recipe": "students"}
    place = make_workplace("processes")
    place.write({**TINY, "models": models, "recipes": recipes, **names, "methods": {"kd": None, "at": None}})

    def run(device):
        # Without the profile: how many GPUs there are is not asked for here.
        command = ["-m", "snakemake", "-n", "--snakefile", REPOSITORY / "Snakefile", "--workflow-profile", "none"]
        outcome = place.run(
            sys.executable, *command, "--cores", "8", "--configfile", "tiny.yaml", "--config", f"device={device}"
        )
        assert outcome.status == 0, outcome.text
        return outcome.text

    return run


def jobs_of(text, rule):
    """Return what a dry run says of each job of a rule, and that there are some."""
    jobs = [job for job in re.split(r"^(?=rule )", text, flags=re.MULTILINE) if re.match(rf"rule {rule}:", job)]
    assert jobs
    return jobs


def test_a_job_counts_the_threads_of_all_its_processes_and_trains_one_student(dry_run):
    text = dry_run("cpu")
    students = jobs_of(text, r"students_pack\d")
    assert len(students) == 2
    assert all("threads: 4" in job for job in students)
    assert all("threads: 3" in job for job in jobs_of(text, "teacher"))
    assert all("threads: 2" in job for job in jobs_of(text, "overlap"))


def test_a_job_counts_a_gpu_for_each_process(dry_run):
    text = dry_run("cuda")
    assert all("gpu=2" in job for job in jobs_of(text, r"students_pack\d"))
    assert all("gpu=1" in job for rule in ("teacher", "overlap") for job in jobs_of(text, rule))


def test_batch_normalisation_on_a_cpu_stops_snakemake_with_one_line(make_workplace, tiny):
    tiny["recipes"]["short"]["processes"] = 2
    place = make_workplace("refused")
    place.write(tiny)
    outcome = place.snakemake("-n", "--config", "device=cpu")
    assert outcome.status != 0
    assert "set synchronise_batch_norm: false" in outcome.text
    assert "Traceback" not in outcome.text
