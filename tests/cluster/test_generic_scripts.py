"""What the scripts of profiles/generic answer, without Snakemake. The batch systems are stand-ins, no real ones."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

PROFILES = Path(__file__).parents[2] / "profiles"
RESOURCES = ("threads=2", "mem_mb=3000", "runtime=95", "log=results/e/logs/d/run.log")
LONG_AGO = "1000\n"


@pytest.fixture
def cluster(make_cluster):
    return make_cluster()


def submit(cluster, script="exit 0", gpu=1):
    """Submit a job; return what the command did, the id that Snakemake holds, and the job's folder."""
    job = cluster.folder / "jobscript.sh"
    job.write_text(script)
    done = cluster.script("submit.sh", *RESOURCES, f"gpu={gpu}", "students", "dataset=d,seed=0", job)
    full = done.stdout.strip()
    return done, full, cluster.folder / ".snakemake/batch" / full.rpartition(":")[2]


def status_of(cluster, full):
    done = cluster.script("status.sh", full)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def job(cluster):
    """A job that the queue does not list and that has written nothing: its id and folder."""
    folder = cluster.folder / ".snakemake/batch/abc"
    folder.mkdir(parents=True)
    return "7:abc", folder


@pytest.fixture
def listed(cluster):
    """The entry of job 7 in the queue."""
    entry = cluster.state / "queue/7"
    entry.parent.mkdir()
    entry.touch()
    return entry


@pytest.mark.parametrize(("script", "answer"), [("exit 0", "success"), ("exit 3", "failed"), ("kill -9 $$", "failed")])
def test_a_job_that_ended_is_known_by_what_it_wrote_though_the_queue_forgot_it(cluster, script, answer):
    _, full, folder = submit(cluster, script)
    cluster.wait_until(lambda: not cluster.queue)
    assert status_of(cluster, full) == answer
    assert not folder.exists()


def test_a_job_whose_shell_is_told_to_stop_passes_it_on_and_has_failed(cluster):
    trapping = "trap 'touch heard; exit 75' TERM; touch started; while :; do sleep 0.05; done"
    _, full, _ = submit(cluster, trapping)
    cluster.wait_until((cluster.folder / "started").exists)
    assert cluster.script("cancel.sh", full).returncode == 0
    cluster.wait_until(lambda: not cluster.queue)
    assert (cluster.folder / "heard").exists()
    assert status_of(cluster, full) == "failed"


def test_a_job_in_the_queue_runs_and_a_former_absence_is_forgotten(cluster, job, listed):
    full, folder = job
    (folder / "missing").write_text(LONG_AGO)
    assert status_of(cluster, full) == "running"
    assert not (folder / "missing").exists()


def test_a_job_that_just_left_the_queue_may_still_be_writing_how_it_ended(cluster, job):
    full, folder = job
    assert status_of(cluster, full) == "running"
    (folder / "status").write_text("0\n")
    assert status_of(cluster, full) == "success"


def test_a_job_that_left_the_queue_long_ago_without_a_word_has_failed(cluster, job):
    full, folder = job
    (folder / "missing").write_text(LONG_AGO)
    assert status_of(cluster, full) == "failed"


def test_a_scheduler_that_cannot_be_asked_is_waited_for(cluster, job):
    full, folder = job
    (folder / "missing").write_text(LONG_AGO)
    (cluster.state / "down").touch()
    assert status_of(cluster, full) == "running"


def test_a_scheduler_that_cannot_be_asked_for_hours_ends_the_wait(cluster, job, listed):
    (cluster.folder / ".snakemake/batch/down").write_text(LONG_AGO)
    (cluster.state / "down").touch()
    assert status_of(cluster, job[0]) == "failed"


def test_a_scheduler_that_answers_again_has_not_been_down(cluster, job, listed):
    (cluster.folder / ".snakemake/batch/down").write_text(LONG_AGO)
    assert status_of(cluster, job[0]) == "running"
    assert not (cluster.folder / ".snakemake/batch/down").exists()


def test_a_job_that_nobody_here_submitted_has_failed(cluster):
    (cluster.folder / ".snakemake/batch").mkdir(parents=True)
    assert status_of(cluster, "7:gone") == "failed"


def test_one_listing_serves_all_jobs_for_a_while(cluster, job, listed):
    cluster.variables["FAKE_LIST_EVERY_S"] = "1000"
    assert status_of(cluster, job[0]) == "running"
    listed.unlink()
    (job[1] / "missing").write_text(LONG_AGO)
    assert status_of(cluster, job[0]) == "running"


def use_site(cluster, text):
    site = cluster.folder / "site.sh"
    site.write_text(text)
    cluster.variables["DCTKD_SITE"] = str(site)


def test_ctrl_c_does_not_cut_an_answer_short(cluster, job):
    use_site(cluster, "list_jobs() { kill -INT $$; echo 7; }")
    assert status_of(cluster, job[0]) == "running"


def test_cancelling_returns_at_once_though_the_site_is_slow(cluster):
    (cluster.folder / ".snakemake/batch").mkdir(parents=True)
    os.mkfifo(cluster.folder / "gate")
    use_site(cluster, 'cancel_jobs() { read -r _ < gate; echo "$@" > cancelled; }')
    started = time.monotonic()
    assert cluster.script("cancel.sh", "7:abc", "8.server:def").returncode == 0
    assert time.monotonic() - started < 2, "Snakemake gives it two seconds"
    (cluster.folder / "gate").write_text("go\n")
    cluster.wait_until((cluster.folder / "cancelled").exists)
    cluster.wait_until(lambda: (cluster.folder / "cancelled").read_text() == "7 8.server\n")


@pytest.fixture
def watch(cluster):
    """The script that runs beside Snakemake, and the folder that it made for the jobs."""
    use_site(cluster, 'cancel_jobs() { echo "$@" >> cancelled; }')
    command = [PROFILES / "generic/watch.sh"]
    with subprocess.Popen(command, cwd=cluster.folder, env=cluster.environment, stdout=subprocess.PIPE) as process:
        state = process.stdout.readline().decode().strip()
        cluster.variables["SNAKEMAKE_CLUSTER_SIDECAR_VARS"] = state
        yield process, cluster.folder / state
        process.kill()


def test_what_snakemake_forgot_to_cancel_is_cancelled_at_its_end_and_nothing_else(cluster, watch):
    process, state = watch
    for name, files in {"a": ["id"], "b": ["id", "status"], "c": [], "d": ["id"]}.items():
        (state / name).mkdir()
        for file in files:
            (state / name / file).write_text(f"number-{name}\n")
    assert cluster.script("cancel.sh", "number-d:d").returncode == 0
    process.send_signal(signal.SIGINT)
    process.terminate()
    assert process.wait(timeout=10) == 0
    assert sorted((cluster.folder / "cancelled").read_text().split()) == ["number-a", "number-d"]
    assert not state.exists()


def test_a_site_that_takes_no_job_is_an_error_and_leaves_nothing(cluster):
    use_site(cluster, "submit_pause_s=0; submit_job() { echo no such queue >&2; return 1; }")
    done, _, _ = submit(cluster)
    assert done.returncode == 1
    assert done.stderr.count("no such queue") == 3
    assert "error: the site's command took no job students.d.0" in done.stderr
    assert list((cluster.folder / ".snakemake/batch").iterdir()) == []


def test_paths_with_quotes_and_spaces_are_fine(make_cluster):
    cluster = make_cluster("it's a folder")
    _, full, _ = submit(cluster, "echo said > said")
    cluster.wait_until(lambda: not cluster.queue)
    assert status_of(cluster, full) == "success"
    assert (cluster.folder / "said").exists()


STAND_INS = {
    "slurm": ("sbatch", "77;main", "77"),
    "pbs": ("qsub", "77.server", "77.server"),
    "torque": ("qsub", "77.server", "77.server"),
    "sge": ("qsub", "77", "77"),
    "lsf": ("bsub", "Job <77> is submitted to default queue <normal>.", "77"),
}
ASKED = {
    "slurm": "--cpus-per-task 2 --mem 3000M --time 95 --gpus-per-node 1",
    "pbs": "-l select=1:ncpus=2:mem=3000mb:ngpus=1 -l walltime=01:35:00",
    "torque": "-l nodes=1:ppn=2:gpus=1 -l mem=3000mb,walltime=01:35:00",
    "sge": "-pe smp 2 -l h_rt=01:35:00,mem_free=1500M,gpu=1",
    "lsf": "-n 2 -R span[hosts=1] rusage[mem=3000] -M 3000 -W 95 -gpu num=1",
}
LISTED = {
    "slurm": ("squeue", "77"),
    "pbs": ("qselect", "77.server"),
    "torque": ("qselect", "77.server"),
    "sge": ("qstat", "job-ID prior name\\n-----\\n     77 0.5 students"),
    "lsf": ("bjobs", "77  "),
}


@pytest.fixture(params=sorted(STAND_INS))
def site(cluster, request):
    """A site's file, and a folder on the PATH for stand-ins of its commands."""
    cluster.variables["DCTKD_SITE"] = str(cluster.folder / "site.sh")
    (cluster.folder / "site.sh").write_text(f"options='-q long'\n. {PROFILES}/generic/sites/{request.param}.sh\n")
    cluster.variables["PATH"] = f"{cluster.folder}/bin{os.pathsep}{cluster.environment['PATH']}"
    (cluster.folder / "bin").mkdir()
    return request.param


def stand_in(cluster, command, answer, status=0):
    path = cluster.folder / "bin" / command
    path.write_text(f'#!/bin/sh\necho "$@" > {cluster.folder}/{command}\nprintf "{answer}\\n"\nexit {status}\n')
    path.chmod(0o755)
    return cluster.folder / command


def test_a_site_is_asked_for_what_the_rule_needs_and_its_number_is_read(cluster, site):
    command, answer, number = STAND_INS[site]
    asked = stand_in(cluster, command, answer)
    done, full, _ = submit(cluster)
    assert (done.returncode, full.partition(":")[0]) == (0, number), done.stderr
    words = asked.read_text()
    assert ASKED[site] in words
    assert f"{cluster.folder}/results/e/logs/d/run.batch.log" in words
    assert "students.d.0" in words
    assert "-q long" in words


def test_a_job_without_a_gpu_asks_for_none(cluster, site):
    command, answer, _ = STAND_INS[site]
    asked = stand_in(cluster, command, answer)
    submit(cluster, gpu=0)
    assert "gpu" not in asked.read_text().replace(str(cluster.folder), "")


def test_a_site_s_listing_names_the_job(cluster, site, job):
    full = f"{STAND_INS[site][2]}:abc"
    stand_in(cluster, *LISTED[site])
    (job[1] / "missing").write_text(LONG_AGO)
    assert status_of(cluster, full) == "running"
    assert not (job[1] / "missing").exists()


def test_a_site_s_failed_listing_is_no_empty_one(cluster, site, job):
    stand_in(cluster, LISTED[site][0], "cannot connect to server", status=1)
    (job[1] / "missing").write_text(LONG_AGO)
    assert status_of(cluster, f"{STAND_INS[site][2]}:abc") == "running"


def test_the_shell_scripts_are_plain_sh():
    for path in sorted((PROFILES / "generic").rglob("*.sh")):
        done = subprocess.run(["sh", "-n", path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), path


def test_what_all_profiles_share_is_the_same_in_each():
    read = {path.parent.name: yaml.safe_load(path.read_text()) for path in sorted(PROFILES.glob("*/config.yaml"))}
    default = read.pop("default")
    own = {"resources", "default-resources"}
    assert "generic" in read
    for name, profile in read.items():
        shared = {key: profile.get(key) for key in default.keys() - own}
        assert shared == {key: default[key] for key in shared}, name
        assert set(default["default-resources"]) <= set(profile["default-resources"]), name
