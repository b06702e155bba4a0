"""What Snakemake may hand out decides where jobs compute and into how many the plan is cut."""

import pytest

from dctkd.config import resolve
from dctkd.places import RESULTS
from dctkd.plan_file import read_plan
from dctkd.workflow import Slots, demand_of, open_plan, plan_path


@pytest.fixture
def raw(tiny, tmp_path, monkeypatch):
    """An experiment in a working folder of its own, without GPUs here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tiny


def opened(raw, slots):
    return open_plan(raw, files=[], results=RESULTS, slots=slots, is_main=True)


def test_on_a_cluster_gpus_to_hand_out_decide_about_the_device_not_this_machine(raw):
    assert opened(raw, Slots(jobs=9, gpus=4)).config.device == "cuda"
    assert opened(raw, Slots(jobs=9, gpus=0)).config.device == "cpu"
    assert opened(raw, Slots(jobs=9)).config.device == "cpu"
    assert opened({**raw, "device": "cpu"}, Slots(jobs=9, gpus=4)).config.device == "cpu"


def test_on_one_machine_the_device_is_left_to_the_job(raw):
    assert opened(raw, Slots(cores=2)).config.device == "auto"


@pytest.mark.parametrize(
    ("slots", "kind", "expected"),
    [
        (Slots(cores=8), "cpu", 4),
        (Slots(cores=1), "cpu", 1),
        (Slots(jobs=100, gpus=8), "cuda", 8),
        (Slots(jobs=5, gpus=8), "cuda", 5),
        (Slots(jobs=100), "cpu", 100),
        (Slots(cores=8, gpus=2), "cuda", 2),
        (Slots(cores=8), "cuda", None),
        (Slots(), "cpu", None),
    ],
)
def test_jobs_at_a_time(raw, slots, kind, expected):
    raw["recipes"]["short"]["threads"] = 2
    assert slots.num_jobs(resolve(raw, where="t"), kind) == expected


def test_packs_are_cut_to_the_time_limit_and_networks_are_measured_once(raw, monkeypatch):
    raw |= {"methods": {f"at{number}": {"method": "at"} for number in range(30)}, "students_per_job": "auto"}
    raw["recipes"]["short"]["epochs"] = 20_000
    one = {**raw, "seeds": list(range(50))}
    assert len(opened(one, Slots(jobs=2)).packs) == 1, "without a limit one pack per seed is cheapest"
    limited = opened({**one, "job_hours": 1.0}, Slots(jobs=2))
    assert len(limited.packs) > 1
    demand = demand_of(limited, Slots(jobs=2))
    largest = max(len(pack.methods) for pack in limited.packs)
    assert demand.students_minutes("shapes", ("wide", "narrow"), largest) < 60
    monkeypatch.setattr("dctkd.workflow._measured", None)
    assert demand_of(limited, Slots(jobs=2)).sizes == demand.sizes


def test_jobs_read_from_the_plan_that_they_belong_to_a_cluster(raw):
    made = opened(raw, Slots(jobs=9, gpus=4))
    path = plan_path(made.name)
    path.parent.mkdir(parents=True)
    path.write_text(made.to_json())
    assert read_plan(path) == made
    assert open_plan(raw, files=[], results=RESULTS, slots=Slots(cores=2), is_main=False).is_for_cluster


def test_a_mistake_of_the_sites_ends_snakemake_in_one_line(raw, tmp_path, capsys):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/site.yaml").write_text("epochs: 3\n")
    with pytest.raises(SystemExit, match="2"):
        opened(raw, Slots(cores=2))
    assert capsys.readouterr().err.count("\n") == 1
