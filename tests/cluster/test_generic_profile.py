"""The tiny experiment through profiles/generic and a fake batch system (fake_batch.py), which is no real PBS."""

import copy
import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[2]

BREAKS = """
from dctkd.methods.base import Method

class Breaks(Method):
    title, paper, year, features = "breaks", "none", 2026, "logits"
    default_weight, default_weight_source = 1.0, "a test"

    def forward(self, student, teacher, batch):
        {body}
"""
KILLED_ONCE = """
        import os, signal
        from pathlib import Path
        flag = Path(os.environ["KILL_FLAG"])
        if batch.epoch == 1 and not flag.exists():
            flag.touch()
            os.killpg(0, signal.SIGKILL)
        return {"nothing": 0 * student.logits_BK.sum()}
"""
STUDENTS = [f"results/tiny/shapes/wide__narrow/{method}/seed0/metrics.json" for method in ("baseline", "kd", "at")]


def edges(folder):
    """Map each published edge of a run to its bytes."""
    paths = [path for name in ("metrics.json", "teacher.json") for path in (folder / "results/tiny").rglob(name)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def tiny_module(request):
    plugins = request.config.pluginmanager.get_plugins()
    tiny = copy.deepcopy(next(plugin for plugin in plugins if hasattr(plugin, "TINY")).TINY)
    return {**tiny, "students_per_job": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def alone(make_shared_experiment, tiny_module):
    """The same experiment trained in this process."""
    return make_shared_experiment("alone", **tiny_module).prepare().train()


@pytest.fixture(scope="module")
def with_teacher(make_shared_experiment, tiny_module):
    """Images and teacher of the experiment, and no student."""
    return make_shared_experiment("prepared", **tiny_module).prepare()


@pytest.fixture
def cluster(make_cluster, with_teacher):
    """A working folder in which only students are to be trained."""
    cluster = make_cluster()
    shutil.copytree(with_teacher.results, cluster.folder / "results", symlinks=True)
    return cluster


@pytest.fixture(scope="module")
def finished(make_shared_cluster, tiny_module):
    """The whole experiment, at most two jobs open; the system loses the first student's job."""
    cluster = make_shared_cluster("finished")
    cluster.write(tiny_module)
    (cluster.state / "lose").write_text("students_pack0")
    cluster.outcome = cluster.snakemake("--configfile", "tiny.yaml", "--jobs", "2")
    return cluster


def test_the_whole_experiment_ends_well(finished):
    status, log = finished.outcome
    assert status == 0, log
    assert (finished.folder / "paper_tables/tiny/index.html").exists()


def test_the_results_are_those_of_one_process_bit_for_bit(finished, alone):
    assert edges(finished.folder) == edges(alone.folder)
    assert len(edges(alone.folder)) == 4


def test_a_lost_job_is_submitted_again(finished):
    names = [name for _, name in finished.submissions]
    assert names.count("students_pack0.shapes.0.narrow.wide") == 2
    assert names.count("students_pack1.shapes.0.narrow.wide") == 1


def test_there_are_never_more_open_jobs_than_asked_for(finished):
    assert max(num_open for num_open, _ in finished.submissions) == 2


def test_the_system_s_log_lies_beside_the_rule_s(finished):
    logs = finished.folder / "results/tiny/logs"
    batch = {path.name for path in logs.rglob("*.batch.log")}
    assert batch == {path.name.replace(".log", ".batch.log") for path in logs.rglob("*.log") if path.name not in batch}


def test_no_job_s_folder_is_left(finished):
    assert list((finished.folder / ".snakemake/batch").iterdir()) == []


def test_a_finished_run_is_as_many_files_as_docs_scaling_says(finished):
    said = re.search(r"a finished run is (\d+) files", (REPOSITORY / "docs/scaling.md").read_text())
    digest = json.loads((finished.folder / STUDENTS[0]).read_text())["digest"]
    files = [path for path in (finished.folder / "results/store" / digest).rglob("*") if path.is_file()]
    assert len(files) == int(said[1]), sorted(path.name for path in files)


def test_a_failing_job_leaves_the_others_finished_and_the_status_is_not_0(cluster, tiny_module):
    (cluster.folder / "breaks.py").write_text(BREAKS.format(body="return 1 / 0"))
    cluster.write({**tiny_module, "methods": {"baseline": None, "breaks": {"file": "breaks.py"}, "at": None}})
    targets = [path.replace("/kd/", "/breaks/") for path in STUDENTS]
    status, log = cluster.snakemake(*targets, "--configfile", "tiny.yaml", "--retries", "0")
    assert status == 1, log
    assert [(cluster.folder / path).exists() for path in targets] == [True, False, True]


def test_a_job_that_is_killed_is_submitted_again_and_goes_on_where_it_was(cluster, tiny_module):
    cluster.variables["KILL_FLAG"] = "killed"
    (cluster.folder / "breaks.py").write_text(BREAKS.format(body=KILLED_ONCE.strip()))
    cluster.write({**tiny_module, "methods": {"baseline": None, "breaks": {"file": "breaks.py"}}})
    target = STUDENTS[0].replace("baseline", "breaks")
    status, log = cluster.snakemake(target, "--configfile", "tiny.yaml")
    assert status == 0, log
    assert [name.partition(".")[0] for _, name in cluster.submissions] == 2 * ["students_pack1"]
    digest = json.loads((cluster.folder / target).read_text())["digest"]
    epochs = re.findall(r"epoch (\d)", (cluster.folder / "results/store" / digest / "log.txt").read_text())
    assert epochs == ["1", "2"], "the first is not trained again"


def test_ctrl_c_cancels_the_jobs(cluster, tiny_module):
    recipe = {**tiny_module["recipes"]["short"], "epochs": 100_000}
    cluster.write({**tiny_module, "recipes": {**tiny_module["recipes"], "long": recipe}, "student_recipe": "long"})
    process = cluster.start(*STUDENTS, "--configfile", "tiny.yaml")
    store = cluster.folder / "results/store"
    cluster.wait_until(lambda: len(list(store.glob("*/checkpoint.bin"))) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=300) == 1, cluster.log
    cluster.wait_until(lambda: not cluster.queue)
    assert len(set((cluster.state / "cancelled").read_text().split())) >= 2, "of three, one may not have run yet"
