"""The plan where declared files travel through object storage: jobs have copies of them in another folder."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dctkd import cli
from dctkd.plan_file import read_plan
from dctkd.workflow import Slots, open_plan, plan_path, write_plan

COPIES = Path(".snakemake/storage/s3/bucket/results")


@pytest.fixture
def experiment(make_experiment, tiny, monkeypatch):
    made = make_experiment(tiny)
    monkeypatch.chdir(made.folder)
    return made


def packs_of(raw, **given):
    settings = {"files": (), "results": Path("results"), "slots": Slots(), "is_main": True, **given}
    return [pack.methods for pack in open_plan(raw, **settings).packs]


def test_packs_do_not_depend_on_the_cores_of_a_job_that_makes_the_plan_again(tiny):
    cut = {cores: packs_of({**tiny, "device": "cpu"}, results=COPIES, slots=Slots(cores)) for cores in (None, 1, 3, 64)}
    assert list(cut.values()) == [[("baseline", "kd", "at")]] * 4


def test_a_number_of_students_per_job_holds_there_too(tiny):
    raw = {**tiny, "device": "cpu", "students_per_job": 1}
    assert packs_of(raw, results=COPIES, slots=Slots(64)) == [("baseline",), ("kd",), ("at",)]


def test_the_main_process_renews_a_copy_of_the_plan_and_a_job_keeps_it(experiment):
    copy = plan_path("tiny", COPIES)
    copy.parent.mkdir(parents=True)
    copy.write_text("old")
    write_plan(experiment.plan, COPIES, is_main=False)
    kept = copy.read_text()
    write_plan(experiment.plan, COPIES, is_main=True)
    assert (kept, read_plan(copy), read_plan(plan_path("tiny"))) == ("old", experiment.plan, experiment.plan)


def test_a_job_writes_nothing_below_results_but_store_and_cache(experiment):
    write_plan(experiment.plan, COPIES, is_main=False)
    assert sorted(path.name for path in Path("results").iterdir()) == ["cache", "store"]
    assert not list(Path("results").glob("*/*"))


def test_a_job_without_object_storage_writes_nothing(experiment):
    write_plan(experiment.plan, Path("results"), is_main=False)
    assert not list(experiment.folder.iterdir())


def test_an_edge_is_published_beside_the_copy_of_the_plan_and_pixels_below_results(experiment):
    write_plan(experiment.plan, COPIES, is_main=False)
    edge = COPIES / "tiny/shapes/data.json"
    arguments = ["data", "pack", "--plan", str(plan_path("tiny", COPIES)), str(edge)]
    assert CliRunner().invoke(cli.app, arguments, catch_exceptions=False).exit_code == 0
    assert edge.is_file()
    assert list(Path("results/cache").glob("*/fingerprint.json"))
