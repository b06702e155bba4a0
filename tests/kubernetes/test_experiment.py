"""An experiment in pods: its files travel through a bucket and two claims, and its results are those of one machine."""

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(make_workplace):
    """The experiment, run in pods."""
    workplace = make_workplace("finished")
    status, text = workplace.in_pods()
    assert status == 0, text + "".join(workplace.cluster.logs.values())
    return workplace


@pytest.fixture(scope="module")
def on_one_machine(make_shared_experiment):
    """The results folder of the same experiment, trained here without Snakemake."""
    experiment = make_shared_experiment("local", device="cpu").prepare().train()
    return experiment.results / "tiny"


def test_pods_publish_the_bytes_of_one_machine(finished, on_one_machine):
    expected = {path.relative_to(on_one_machine).as_posix(): path for path in on_one_machine.rglob("seed*/*.json")}
    published = finished.published()
    assert len(expected) == 4  # a teacher's and three students'
    assert {name: published[name] for name in expected} == {name: path.read_bytes() for name, path in expected.items()}


def test_every_pod_makes_the_plan_of_the_process_that_sent_it(finished):
    plan = (finished.folder / "results/tiny/plan.json").read_bytes()
    copies = list(finished.cluster.folder.glob("*/.snakemake/storage/s3/finished/exp/results/tiny/plan.json"))
    assert [copy.read_bytes() for copy in copies] == [plan] * 8


def test_tables_figures_and_logs_lie_in_the_bucket(finished):
    there = finished.objects()
    assert {
        "exp/paper_tables/tiny/accuracy.md",
        "exp/paper_tables/tiny/index.html",
        "exp/results/tiny/logs/tables.log",
    } <= there


def test_weights_lie_on_the_claim_and_not_in_the_bucket(finished):
    assert len(list(finished.cluster.claims["dctkd-store"].glob("*/weights.safetensors"))) == 4
    assert not [key for key in finished.objects() if "weights" in key or "/store/" in key or "/cache/" in key]


def test_every_job_ran_in_a_pod_which_first_installs_the_storage_plugin(finished):
    asked = (finished.cluster.folder.parent / "bin/asked").read_text().splitlines()
    assert len(finished.cluster.statuses) == len(asked) == 8
    assert set(finished.cluster.statuses.values()) == {0}
    assert all("snakemake-storage-plugin-s3" in line.split() for line in asked)


def test_a_second_call_has_nothing_to_do_and_sends_no_pod(finished):
    before = len(finished.cluster.jobs)
    status, text = finished.in_pods()
    assert status == 0, text
    assert "Nothing to be done" in text
    assert len(finished.cluster.jobs) == before
