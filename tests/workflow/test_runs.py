"""Snakemake runs a tiny experiment; what it makes again, and what not."""

import copy
import json
import shutil

import pytest
from pandas import read_parquet

pytestmark = pytest.mark.slow

BREAKS = """
from dctkd.methods.base import Method

class Breaks(Method):
    title, paper, year, features = "breaks", "none", 2026, "logits"
    default_weight, default_weight_source = 1.0, "a test"

    def forward(self, student, teacher, batch):
        return 1 / 0
"""


@pytest.fixture(scope="module")
def finished(make_workplace, tiny_module):
    """A folder in which the tiny experiment is finished; tests must leave it so."""
    workplace = make_workplace("finished")
    workplace.write(tiny_module)
    done = workplace.snakemake()
    assert done.status == 0, done.text
    return workplace


@pytest.fixture(scope="module")
def tiny_module(request):
    from_root = request.config.pluginmanager
    conftest = next(plugin for plugin in from_root.get_plugins() if hasattr(plugin, "TINY"))
    return copy.deepcopy(conftest.TINY)


@pytest.fixture
def copied(finished, make_workplace):
    """A copy of the finished folder, to change at will."""
    workplace = make_workplace("copied")
    shutil.copytree(finished.folder, workplace.folder, dirs_exist_ok=True, symlinks=True)
    return workplace


def test_tables_figures_and_tidy_results_are_there(finished):
    names = {path.name for path in (finished.folder / "paper_tables/tiny").iterdir()}
    tables = {f"{table}.{kind}" for table in ("accuracy", "cost", "overlap") for kind in ("md", "csv", "tex")}
    figures = {f"{figure}.{kind}" for figure in ("accuracy", "accuracy_vs_gmacs") for kind in ("pdf", "png", "svg")}
    assert tables | figures <= names
    tidy = read_parquet(finished.folder / "results/tiny/tidy.parquet")
    assert {"baseline", "kd", "at", "teacher"} <= set(tidy["method"])


def test_a_second_call_has_nothing_to_do_and_says_so_in_five_seconds(finished):
    outcomes = [finished.snakemake() for _ in range(2)]
    assert all("Nothing to be done" in done.text for done in outcomes)
    assert min(done.seconds for done in outcomes) < 5


def test_a_job_that_only_publishes_takes_half_a_second(finished):
    edges = [f"results/tiny/shapes/wide__narrow/{method}/seed0/metrics.json" for method in ("baseline", "kd", "at")]
    outcomes = [finished.dctkd("train", "--plan", "results/tiny/plan.json", *edges) for _ in range(5)]
    assert all(done.status == 0 for done in outcomes), outcomes[0].text
    assert min(done.cpu_seconds for done in outcomes) < 0.5


def test_what_was_damaged_and_mended_away_is_made_again_by_the_same_command_and_nothing_else_is(copied):
    before = copied.store()
    pair = copied.folder / "results/tiny/shapes"
    edges = [
        pair / name for name in ("data.json", "teachers/wide/seed0/teacher.json", "wide__narrow/kd/seed0/metrics.json")
    ]
    published = [edge.read_bytes() for edge in edges]
    digests = [json.loads(edge.read_text())["digest"] for edge in edges[1:]]
    for path in (edges[0], *(copied.folder / "results/store" / digest / "weights.safetensors" for digest in digests)):
        path.write_bytes(path.read_bytes()[:100])
    done = copied.dctkd("store", "verify")
    assert (done.status, done.text.count("removes it")) == (2, 3), done.text
    assert copied.dctkd("store", "verify", "--mend").status == 0
    again = copied.snakemake()
    assert again.status == 0, again.text
    after = copied.store()
    assert {other for other in before if before[other] != after[other]} == set(digests)
    assert [edge.read_bytes() for edge in edges] == published
    assert "Nothing to be done" in copied.snakemake().text
    assert copied.dctkd("store", "verify").status == 0


def test_another_pack_size_publishes_again_but_trains_nothing(copied, tiny_module):
    before = copied.store()
    copied.write({**tiny_module, "students_per_job": 1})
    dry = copied.snakemake("--dry-run")
    # Two packs become three; what was the second is the same row as before.
    assert [dry.count_of(f"students_pack{number}") for number in range(3)] == [1, 0, 1]
    assert copied.snakemake().status == 0
    assert copied.store() == before
    assert "Nothing to be done" in copied.snakemake().text


def test_a_new_row_trains_that_row_alone(copied, tiny_module):
    before = copied.store()
    copied.write({**tiny_module, "methods": {**tiny_module["methods"], "at": {"weight": 7}}})
    assert copied.snakemake().status == 0
    after = copied.store()
    assert len(after.keys() - before.keys()) == 1
    assert {digest: after[digest] for digest in before} == before


def test_a_title_rebuilds_the_tables_alone(copied, tiny_module):
    copied.write({**tiny_module, "title": "another"})
    dry = copied.snakemake("--dry-run")
    assert (dry.count_of("tables"), dry.count_of("students_pack0"), dry.count_of("teacher")) == (1, 0, 0)


def test_an_experiment_that_shares_the_teacher_and_two_methods_leaves_the_first_up_to_date(copied, tiny_module):
    before = copied.store()
    rows = {"baseline": None, "kd": None, "dct": None}
    copied.write({**tiny_module, "experiment": "second", "methods": rows}, "second.yaml")
    assert copied.snakemake(config="second.yaml").status == 0
    after = copied.store()
    assert len(after.keys() - before.keys()) == 1
    assert {digest: after[digest] for digest in before} == before
    assert "Nothing to be done" in copied.snakemake().text


def test_a_failing_student_leaves_its_pack_finished_and_partial_tables_show_it(copied, tiny_module):
    (copied.folder / "breaks.py").write_text(BREAKS)
    rows = {"baseline": None, "breaks": {"file": "breaks.py"}, "dct": None}
    copied.write({**tiny_module, "experiment": "broken", "methods": rows})
    before = copied.store()
    done = copied.snakemake()
    assert done.status == 1
    assert len(copied.store().keys() - before.keys()) == 1, "dct is finished although breaks crashed"
    assert copied.snakemake("partial").status == 0
    table = (copied.folder / "paper_tables/broken/accuracy.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith("| breaks"))
    assert "—" in row
    assert "0.00" not in row
    assert any(line.startswith("| dct") and "±" not in line.split("|")[1] for line in table.splitlines())
    states = json.loads(copied.dctkd("status", "--config", "tiny.yaml", "--json").text)
    assert {state["path"].split("/")[3]: state["status"] for state in states if "breaks" in state["path"]} == {
        "breaks": "failed"
    }


def test_snakemakes_own_report_is_written(finished):
    done = finished.snakemake("--report", "report.html")
    assert done.status == 0, done.text
    assert (finished.folder / "report.html").stat().st_size > 100_000


def test_plan_and_status_speak_json_and_text(finished):
    plan = json.loads(finished.dctkd("plan", "--config", "tiny.yaml", "--json").text)
    assert (plan["runs"], plan["teachers"]) == (3, 1)
    assert plan["pairs"][0]["stages"][0] == "layer1~layer1"
    assert plan["methods"]["shapes/wide__narrow/kd"]["extra_parameters"] == 0
    assert "3 student runs" in finished.dctkd("plan", "--config", "tiny.yaml").text
    assert "4 runs: 4 ok" in finished.dctkd("status", "--config", "tiny.yaml").text
