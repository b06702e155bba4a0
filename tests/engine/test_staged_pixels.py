"""Jobs that read pixels from a copy on their node's disk: the same bits everywhere, and a copy for all of them."""

import json

import pytest

from dctkd.engine import overlap


@pytest.fixture(scope="module")
def shared(make_shared_experiment):
    """Trained and measured without staging."""
    experiment = make_shared_experiment("plain", methods={"baseline": None, "kd": None}).prepare().train()
    return measured(experiment)


def measured(experiment):
    edges = [(experiment.results / run.path).with_name("overlap.json") for run in experiment.plan.runs]
    overlap.measure_overlap(experiment.plan, edges, experiment.results, device="cpu")
    return experiment


def seen(experiment):
    paths = sorted(experiment.results.glob("tiny/**/overlap.json"))
    return [json.loads(path.read_text()) for path in paths]


@pytest.fixture
def staged(make_experiment, tiny, tmp_path):
    tiny |= {"methods": {"baseline": None, "kd": None}, "stage_to": str(tmp_path / "node"), "stage_limit_gb": 1}
    return make_experiment(tiny)


def test_teachers_students_and_measurements_end_with_the_same_bits(shared, staged, tmp_path, caplog):
    caplog.set_level("INFO")
    measured(staged.prepare().train())
    assert staged.bits() == shared.bits()
    assert seen(staged) == seen(shared)
    copied = [record for record in caplog.records if "copied to" in record.getMessage()]
    assert len(copied) == 1, "the teacher's job; the others find the copy"
    assert len(list((tmp_path / "node").glob("*/train/pixels.bin"))) == 1


def test_a_job_whose_node_has_no_room_trains_all_the_same(shared, staged, caplog):
    staged.raw["stage_limit_gb"] = 1e-6
    staged.prepare().train()
    assert staged.bits() == shared.bits()
    assert "stage_limit_gb is 1e-06" in caplog.text


def test_where_pixels_lie_and_how_late_files_are_is_no_part_of_a_run(shared, staged):
    staged.raw |= {"shared_results": True, "latency_s": 5}
    specs = [[run.spec for run in experiment.plan.runs] for experiment in (shared, staged)]
    assert specs[0] == specs[1]
