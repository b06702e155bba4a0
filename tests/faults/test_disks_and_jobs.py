"""Full and read-only disks, two of everything at once: what is said, and that nothing is damaged."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from campaign import STUDENTS, Campaign, heed_signals
from PIL import Image

from dctkd import cli, locks
from dctkd.engine.interrupt import Interrupt, InterruptedRunError
from dctkd.engine.job import make_job, run_job
from dctkd.errors import InputError
from dctkd.store import RunFolder

REPOSITORY = Path(__file__).parents[2]


def call(folder, *arguments, **more):
    """Run the installed command in a folder."""
    command = [str(Path(sys.executable).with_name("dctkd")), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **more)


def write(experiment):
    """Write the experiment's file and its plan where the commands look for them."""
    (experiment.folder / "tiny.yaml").write_text(yaml.safe_dump(experiment.raw, sort_keys=False))
    path = experiment.results / "tiny/plan.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(experiment.plan.to_json())
    return experiment


def train(experiment, **more):
    """Train all students in a process of their own, as the rule does."""
    edges = [f"results/{run.path}" for run in experiment.plan.runs]
    return call(experiment.folder, "train", "--plan", "results/tiny/plan.json", *edges, **more)


def assert_one_line(done, *words):
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert [word for word in words if word not in errors[0]] == [], errors[0]


@contextmanager
def small_disk(folder, size):
    """Mount a file system of a few bytes; only root may."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# ---- full disks


def test_a_disk_that_is_full_at_some_write_damages_nothing(make_experiment, tiny, monkeypatch):
    """Of all writes of a job every fourth fails in an experiment of its own; then the same call ends with the bits."""
    tiny["checkpoint_every_s"] = 1e-6
    prepared = make_experiment(tiny, "prepared").prepare()
    fsync, countdown = os.fsync, [0]

    def full(file):
        countdown[0] -= 1
        if countdown[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    def copy(name):
        experiment = make_experiment(tiny, name)
        shutil.copytree(prepared.results, experiment.results, symlinks=True)
        return experiment

    monkeypatch.setattr(os, "fsync", full)
    expected = copy("straight").train().bits()
    num_writes, num_stops = -countdown[0], 0
    assert num_writes > 30
    for number in range(1, num_writes + 1, 4):
        experiment = copy(f"full{number}")
        countdown[0] = number
        try:
            experiment.train()
        except OSError:
            num_stops += 1
            experiment.train()
        assert countdown[0] <= 0, "the write that fails was reached"
        assert experiment.bits() == expected
        assert not list(experiment.results.rglob("*.part"))
    assert num_stops > 3, "the others were checkpoints and progress, without which the training goes on"


@pytest.mark.slow
def test_a_really_full_disk_is_one_line_and_a_larger_one_completes(make_experiment, tiny):
    straight = make_experiment(tiny, "straight").prepare().train()
    experiment = make_experiment(tiny, "full").prepare()
    full_size = sum(path.stat().st_size for path in straight.results.rglob("*") if path.is_file())
    kept = experiment.results.rename(experiment.folder / "kept")
    with small_disk(experiment.folder / "results", int(full_size * 0.9)) as disk:
        shutil.copytree(kept, disk, symlinks=True, dirs_exist_ok=True)
        done = train(write(experiment))
        assert_one_line(done, "results/store/", "No space left on device", "run the same command again")
        subprocess.run(["mount", "-o", f"remount,size={full_size * 2}", str(disk)], check=True)
        assert train(experiment).returncode == 0
        assert experiment.bits() == straight.bits()


@pytest.mark.slow
def test_a_full_temporary_directory_is_not_needed(make_experiment, tiny, tmp_path):
    with small_disk(tmp_path / "tmp", 4096) as disk:
        (disk / "filler").write_bytes(b"x" * 4096)
        experiment = make_experiment(tiny).prepare()
        done = train(write(experiment), env={**os.environ, "TMPDIR": str(disk)})
    assert done.returncode == 0, done.stderr


# ---- read-only results


def test_a_read_only_results_folder_is_one_line_with_the_remedy(make_experiment, tiny):
    experiment = write(make_experiment(tiny).prepare())
    mounted = subprocess.run(
        ["mount", "--bind", "-o", "ro", str(experiment.results), str(experiment.results)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        shutil.rmtree(experiment.results / "store", ignore_errors=True)
        experiment.results.chmod(0o555)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(experiment.results)], capture_output=True, check=False)
        assert_one_line(train(experiment), "results", "read-only" if not mounted.returncode else "permissions")
    finally:
        if mounted.returncode:
            experiment.results.chmod(0o755)
        else:
            subprocess.run(["umount", "-l", str(experiment.results)], check=True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_what_the_system_refuses_is_one_line(monkeypatch, capsys, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), "results/demo/cost.json")

    monkeypatch.setattr("dctkd.plan_file.read_plan_of_jobs", refuse)
    monkeypatch.setattr(sys, "argv", ["dctkd", "cost", "results/demo/cost.json", "--plan", "plan.json"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    text = capsys.readouterr().err
    assert done.value.code == 2
    assert text.startswith(f"error: results/demo/cost.json: {os.strerror(number)}; ")
    assert len(text.splitlines()) == 1


def test_a_link_in_the_log_s_place_is_not_written_through(make_experiment, tiny, tmp_path):
    experiment = make_experiment(tiny).prepare()
    precious = tmp_path / "precious"
    precious.write_text("data")
    task = make_job(experiment.plan, list(experiment.plan.runs), experiment.results, device="cpu").tasks[0]
    task.folder.path.mkdir(parents=True)
    (task.folder.path / "log.txt").symlink_to(precious)
    with pytest.raises(InputError, match="cannot be read back"):
        experiment.train("baseline")
    assert precious.read_text() == "data"


# ---- signals


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_saves_and_ends_with_status_75(make_experiment, tiny, number):
    tiny["recipes"]["short"]["epochs"] = 2000
    experiment = write(make_experiment(tiny).prepare_data())
    edge = f"results/{experiment.plan.teachers[0].path}"
    command = [str(Path(sys.executable).with_name("dctkd")), "train", "--plan", "results/tiny/plan.json", edge]
    process = subprocess.Popen(
        command, cwd=experiment.folder, stderr=subprocess.PIPE, text=True, preexec_fn=heed_signals
    )
    while not list(experiment.results.glob("store/*/state.json")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    sent_s = time.monotonic()
    _, text = process.communicate(timeout=20)
    assert process.returncode == 75, text
    assert time.monotonic() - sent_s < 5
    assert f"stopped by signal {number.value}; run the same command again to go on" in text
    assert list(experiment.results.glob("store/*/checkpoint.bin"))
    assert not list(experiment.results.glob("store/*/lock"))


@pytest.fixture
def photographs(tmp_path):
    """Folders of images that take a while to decode."""
    for split, number in (("train", 60), ("val", 10)):
        for name in ("a", "b"):
            folder = tmp_path / "photographs" / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                Image.effect_noise((900, 700), 50 + index).convert("RGB").save(folder / f"{index}.jpg")
    return tmp_path / "photographs"


def packing(experiment):
    """Start the job that packs with two workers; return it once its workers have begun."""
    command = [str(Path(sys.executable).with_name("dctkd")), "data", "pack", "--plan", "results/tiny/plan.json"]
    command += ["--workers", "2", "results/tiny/shapes/data.json"]
    process = subprocess.Popen(
        command, cwd=experiment.folder, stderr=subprocess.DEVNULL, start_new_session=True, preexec_fn=heed_signals
    )
    while len(members_of(process.pid)) < 5:  # itself, the server that forks, its tracker, two workers
        assert process.poll() is None
        time.sleep(0.01)
    return process


def members_of(session):
    """Return the living processes of a session."""
    found = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(session)], capture_output=True, text=True, check=False)
    return [line for line in found.stdout.splitlines() if "Z" not in line.split()[1]]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ps") is None, reason="needs ps")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 75), (signal.SIGINT, 75)])
def test_a_packing_job_that_is_stopped_leaves_no_process_and_goes_on(
    make_experiment, tiny, photographs, number, status
):
    tiny["datasets"]["shapes"] = {
        "format": "imagefolder",
        "root": str(photographs),
        "input": {"short_side": 36, "crop": 32},
    }
    straight = make_experiment(tiny, "straight").prepare_data()
    experiment = write(make_experiment(tiny, "stopped"))
    process = packing(experiment)
    process.send_signal(number)
    assert process.wait(20) == status
    until_s = time.monotonic() + 10
    while members_of(process.pid) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert members_of(process.pid) == []
    experiment.prepare_data()
    edges = [one.results / "tiny/shapes/data.json" for one in (straight, experiment)]
    assert edges[0].read_text() == edges[1].read_text()


# ---- two at once


def test_a_job_that_waits_adopts_the_other_s_result(make_experiment, tiny, monkeypatch):
    experiment = make_experiment(tiny).prepare()
    reference = make_experiment(tiny, "reference").prepare().train()
    plan = experiment.plan
    runs = [run for run in plan.runs if run.method == "kd"]
    folder = make_job(plan, runs, experiment.results, device="cpu").tasks[0].folder
    held = folder.claim()
    source = reference.store_folder("kd")

    def finish():
        shutil.copytree(source, folder.path, dirs_exist_ok=True)
        held.release()

    monkeypatch.setattr(locks, "POLL_S", 0.02)
    timer = threading.Timer(0.3, finish)
    timer.start()
    with monkeypatch.context() as patch:
        patch.setattr("dctkd.engine.job._train", lambda *_: pytest.fail("trained what another process trains"))
        run_job(make_job(plan, runs, experiment.results, device="cpu"), Interrupt())
    timer.join()
    assert experiment.metrics("kd") == reference.metrics("kd")


def test_at_the_wait_limit_it_ends_with_status_75_and_says_for_whom(make_experiment, tiny):
    tiny["wait_limit_s"] = 0.6
    experiment = write(make_experiment(tiny).prepare())
    job = make_job(experiment.plan, list(experiment.plan.runs), experiment.results, device="cpu")
    with job.tasks[1].folder.claim():
        done = train(experiment)
    assert done.returncode == 75
    assert f"kd/seed0/metrics.json is trained by process {os.getpid()} on " in done.stderr
    finished = [task.folder.metrics() is not None for task in job.tasks]
    assert finished == [True, False, True], "what is free is trained before anything is waited for"


def test_a_job_that_waits_stops_when_it_is_asked_to(make_experiment, tiny, monkeypatch):
    experiment = make_experiment(tiny).prepare()
    job = make_job(experiment.plan, list(experiment.plan.runs), experiment.results, device="cpu")
    monkeypatch.setattr(locks, "POLL_S", 0.02)
    interrupt = Interrupt()
    held = [task.folder.claim() for task in job.tasks]
    threading.Timer(0.2, lambda: setattr(interrupt, "signal_number", signal.SIGTERM)).start()
    with pytest.raises(InterruptedRunError, match="signal 15"):
        run_job(job, interrupt)
    for one in held:
        one.release()


def test_a_run_that_another_process_took_over_is_left_to_it(make_experiment, tiny, monkeypatch):
    experiment = make_experiment(tiny).prepare()
    reference = make_experiment(tiny, "reference").prepare().train()
    other = []
    claim = RunFolder.claim

    def overtaken(self):
        held = claim(self)
        if not other:
            held.path.unlink()
            other.append(claim(self))
            held.beat()
        return held

    def finish():
        folder = other[0].path.parent
        shutil.copytree(reference.store.path / folder.name, folder, dirs_exist_ok=True)
        other[0].release()

    monkeypatch.setattr(RunFolder, "claim", overtaken)
    monkeypatch.setattr(locks, "POLL_S", 0.02)
    waits = []
    wait = locks.Patience.wait

    def finish_while_waiting(self, message):
        if not waits:
            finish()
        waits.append(message)
        wait(self, message)

    monkeypatch.setattr(locks.Patience, "wait", finish_while_waiting)
    experiment.train()
    assert len(waits) == 1
    assert waits[0].startswith("tiny/shapes/wide__narrow/baseline/seed0/metrics.json is trained by process ")
    assert experiment.bits() == reference.bits()


@pytest.mark.slow
def test_two_trainers_of_the_same_runs_train_each_once(make_experiment, tiny):
    tiny["recipes"]["short"]["epochs"] = 25
    reference = make_experiment(tiny, "reference").prepare().train()
    experiment = write(make_experiment(tiny, "two").prepare())
    done = [None, None]

    def run(number):
        done[number] = train(experiment)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.returncode for one in done] == [0, 0], done
    assert experiment.bits() == reference.bits()
    for folder in experiment.store.folders():
        assert len((folder.path / "log.txt").read_text().splitlines()) == 25, "one line an epoch: trained once"


@pytest.mark.slow
def test_of_two_snakemakes_on_one_experiment_the_second_is_told_and_the_first_unharmed(make_experiment, tiny):
    tiny["recipes"]["short"]["epochs"] = 30
    tiny["map_sources"] = ["activation"]
    experiment = make_experiment(tiny)
    (experiment.folder / "tiny.yaml").write_text(yaml.safe_dump(tiny, sort_keys=False))
    edges = [f"results/{run.path}" for run in experiment.plan.runs]
    campaign = Campaign(experiment.folder.resolve(), [*edges, "--configfile", "tiny.yaml"])
    first = campaign.start()
    while not any(STUDENTS.is_of(command) or "teacher.json" in command for _, command in campaign._jobs()):
        assert first.poll() is None
        time.sleep(0.05)
    second = campaign.start()
    assert second.wait(60) == 1
    assert "cannot be locked" in (experiment.folder / "snakemake.log").read_text()
    assert first.wait(300) == 0
    reference = make_experiment(tiny, "reference").prepare().train()
    assert {name: experiment.bits().get(name) for name in reference.bits()} == reference.bits()


@pytest.mark.slow
def test_two_snakemakes_on_experiments_that_share_runs_end_well(make_experiment, tiny):
    tiny["recipes"]["short"]["epochs"] = 40
    tiny["map_sources"] = ["activation"]
    experiment = make_experiment(tiny)
    started = []
    for name in ("tiny", "twin"):
        (experiment.folder / f"{name}.yaml").write_text(yaml.safe_dump({**tiny, "experiment": name}, sort_keys=False))
        edges = [f"results/{name}/{run.path.partition('/')[2]}" for run in experiment.plan.runs]
        started.append(Campaign(experiment.folder.resolve(), [*edges, "--configfile", f"{name}.yaml"]).start())
    statuses = [process.wait(300) for process in started]
    assert statuses == [0, 0], (experiment.folder / "snakemake.log").read_text()[-3000:]
    digests = {}
    for name in ("tiny", "twin"):
        edges = experiment.results.glob(f"{name}/**/metrics.json")
        digests[name] = {json.loads(path.read_text())["digest"] for path in edges}
    assert digests["tiny"] == digests["twin"]
    assert len(list(experiment.store.folders())) == 4
