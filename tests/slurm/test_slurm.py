"""An experiment on a real SLURM: the same bits as on one machine, whatever happens to its jobs.

A method of the tests' own waits a while in each step, so that jobs last as long as a test needs on any machine; the
file `pause_s` beside the experiment says how long, at any time, and is no part of the run's identity.
"""

import copy
import os
import shutil
import signal
import time

import pytest
from slurm_cluster import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SLOW = """
import time
from pathlib import Path
from dctkd.methods.base import Method

PAUSE_S = Path("pause_s")

class Slow(Method):
    title, paper, year, features = "slow", "none", 2026, "logits"
    default_weight, default_weight_source = 1.0, "a test"

    def forward(self, student, teacher, batch):
        time.sleep(float(PAUSE_S.read_text()) if PAUSE_S.exists() else 0)
        return {"logits": (student.logits_BK - teacher.logits_BK).float().square().mean()}
"""
BREAKS = SLOW.replace("Slow", "Breaks").replace("time.sleep(", "1 / 0; time.sleep(")
EDGE = "results/tiny/shapes/wide__narrow/{}/seed0/metrics.json"
SLOW_EDGE = EDGE.format("slow")
NUM_STEPS = 80


@pytest.fixture(scope="module")
def raw(request):
    """An experiment of one pack: two students, 80 steps."""
    plugins = request.config.pluginmanager.get_plugins()
    tiny = copy.deepcopy(next(plugin.TINY for plugin in plugins if hasattr(plugin, "TINY")))
    recipes = tiny["recipes"]
    recipes["long"] = copy.deepcopy(recipes["short"]) | {"epochs": NUM_STEPS // 4}
    tiny |= {"student_recipe": "long", "students_per_job": "all", "checkpoint_every_s": 1.0}
    tiny["methods"] = {"baseline": None, "slow": {"file": "slow.py"}}
    return tiny


@pytest.fixture(scope="module")
def local(raw, make_shared_experiment):
    """The experiment in one process, undisturbed; beside it the results of before the students were trained."""
    experiment = make_shared_experiment("local", **raw)
    (experiment.folder / "slow.py").write_text(SLOW)
    experiment.prepare()
    shutil.copytree(experiment.results, experiment.folder / "prepared", symlinks=True)
    return experiment.train()


@pytest.fixture
def training(cluster, site, raw, local):
    """A site where only the students are left to train, each step of which takes half a second."""
    (site.folder / "slow.py").write_text(SLOW)
    site.set_up(raw, results=local.folder / "prepared")
    site.cluster, site.is_equal = cluster, lambda: _bits(local, site.folder) == local.bits()
    return site


def _bits(experiment, folder):
    return type(experiment)(folder, experiment.raw).bits()


def _times_resumed(site):
    return site.job_logs().count("resumes at step")


def test_an_experiment_ends_with_the_bits_of_one_machine(cluster, site, raw, local):
    (site.folder / "slow.py").write_text(SLOW)
    assert site.set_up(raw).run() == 0, site.log()
    assert _bits(local, site.folder) == local.bits()
    assert (site.folder / "paper_tables/tiny/index.html").exists()
    done = cluster.jobs()
    names = sorted(comment.partition("_wildcards_")[0] for state, comment in done.values() if state == "COMPLETED")
    rules = ["cost", "data", "overlap", "speed", "students_pack0", "tables", "teacher"]
    assert names == [f"rule_{rule}" for rule in rules], "what a job does can be read in squeue"
    assert site.run(limit_s=60) == 0
    assert "Nothing to be done" in site.log()


def test_a_cancelled_job_resumes_with_the_same_command(training):
    first = training.start(SLOW_EDGE, "--retries", "0", pause_s=0.5)
    training.wait_for_training()
    os.system(f"scancel {training.cluster.job_of('students_pack0')}")
    assert training.end(first, limit_s=60) == 1
    assert "signal 15" in training.job_logs(), "it was asked to stop and saved"
    assert training.run(SLOW_EDGE) == 0, training.log()
    assert _times_resumed(training) == 2
    assert training.is_equal()


def test_a_job_that_meets_its_time_limit_is_saved_queued_again_and_ends_with_the_same_bits(training):
    # SLURM counts in minutes: it warns 30 to 90 s after the start of a job that may take two. 80 steps take longer.
    limit = ["--config", f"job_hours={2 / 60}", "--retries", "0"]
    snakemake = training.start(SLOW_EDGE, *limit, pause_s=3)
    training.wait_for_training()  # before it the newest job of this name may be that of another test
    job = training.cluster.job_of("students_pack0")
    wait_until(lambda: training.cluster.num_restarts(job) > 0, "the job is queued again", 180)
    training.set_pause(0)
    assert training.end(snakemake) == 0, training.log()
    assert training.cluster.job_of("students_pack0") == job, "SLURM queued it again, Snakemake did not submit another"
    assert _times_resumed(training) == 2
    assert training.is_equal()


def test_a_job_that_slurm_stops_without_a_warning_is_submitted_again_and_resumes(training):
    snakemake = training.start(SLOW_EDGE, pause_s=0.5)
    training.wait_for_training()
    job = training.cluster.job_of("students_pack0")
    os.system(f"scancel --signal=KILL --full {job}")
    assert training.end(snakemake) == 0, training.log()
    assert int(training.cluster.job_of("students_pack0")) > int(job)
    assert training.is_equal()


def test_a_job_that_gives_way_to_an_urgent_one_resumes_after_it(training):
    snakemake = training.start(SLOW_EDGE, "--retries", "0", pause_s=0.5)
    training.wait_for_training()
    job = training.cluster.job_of("students_pack0")
    training.cluster.run_urgent_job(seconds=2)
    assert training.end(snakemake) == 0, training.log()
    assert training.cluster.num_restarts(job) == 1
    assert _times_resumed(training) == 2
    assert training.is_equal()


def test_a_job_whose_node_is_lost_resumes(training):
    snakemake = training.start(SLOW_EDGE, "--retries", "0", pause_s=0.5)
    training.wait_for_training()
    job = training.cluster.job_of("students_pack0")
    training.cluster.lose_node()
    assert training.end(snakemake) == 0, training.log()
    assert training.cluster.num_restarts(job) > 0
    assert training.is_equal()


def test_a_restart_of_slurmd_is_survived(training):
    snakemake = training.start(SLOW_EDGE, "--retries", "0", pause_s=0.25)
    training.wait_for_training()
    training.cluster.kill("slurmd")
    time.sleep(5)  # what the job does meanwhile nobody sees
    training.cluster.start_slurmd()
    assert training.end(snakemake) == 0, training.log()
    assert _times_resumed(training) == 0, "the job went on without its daemon"
    assert training.is_equal()


def test_a_failing_job_leaves_the_others_finished_and_ends_the_call_within_a_minute(cluster, site, raw, local):
    (site.folder / "slow.py").write_text(SLOW)
    (site.folder / "breaks.py").write_text(BREAKS)
    methods = {"breaks": {"file": "breaks.py"}, **raw["methods"]}
    site.set_up({**raw, "methods": methods, "students_per_job": 1}, results=local.folder / "prepared")
    edges = [site.folder / EDGE.format(row) for row in raw["methods"]]
    snakemake = site.start(*(EDGE.format(row) for row in methods), pause_s=0.1)
    wait_until(lambda: all(edge.exists() for edge in edges), "the others are finished", 200)
    assert site.end(snakemake, limit_s=60) == 1
    assert "ZeroDivisionError" in site.log() + site.job_logs()
    assert [edge.read_bytes() for edge in edges] == [
        (local.results / edge.relative_to(site.folder / "results")).read_bytes() for edge in edges
    ]


def test_ctrl_c_cancels_the_jobs_which_save(training):
    snakemake = training.start(SLOW_EDGE, pause_s=0.5)
    training.wait_for_training()
    os.killpg(snakemake.pid, signal.SIGINT)
    assert training.end(snakemake, limit_s=60) != 0
    job = training.cluster.job_of("students_pack0")
    wait_until(lambda: training.cluster.jobs()[job][0] == "CANCELLED", "the job is cancelled", 60)
    assert training.run(SLOW_EDGE) == 0, training.log()
    assert _times_resumed(training) == 2
    assert training.is_equal()
