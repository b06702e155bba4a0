"""What a site says holds for every experiment, unless the experiment says otherwise; it never changes results."""

import pytest

from dctkd.config import Experiment, resolve
from dctkd.errors import InputError
from dctkd.plan import make_plan
from dctkd.site import SITE_KEYS, with_site


def test_an_experiment_takes_what_it_does_not_say_itself(tmp_path):
    file = tmp_path / "site.yaml"
    file.write_text("data_root: /data\njob_hours: 8\n")
    merged = with_site({"experiment": "tiny", "job_hours": None}, file)
    assert merged == {"experiment": "tiny", "data_root": "/data", "job_hours": None}


def test_without_a_site_nothing_changes(tmp_path):
    assert with_site({"experiment": "tiny"}, tmp_path / "site.yaml") == {"experiment": "tiny"}


def test_a_key_that_could_change_results_is_refused_with_the_nearest_that_could_not(tmp_path):
    file = tmp_path / "site.yaml"
    file.write_text("seeds: [1]\n")
    with pytest.raises(InputError, match=r"site.yaml: seeds: only keys that change no result belong here"):
        with_site({}, file)
    file.write_text("job_hour: 3\n")
    with pytest.raises(InputError, match="job_hours"):
        with_site({}, file)


VALUES = {
    "data_root": "/elsewhere",
    "device": "cpu",
    "students_per_job": 1,
    "job_hours": 3.0,
    "checkpoint_every_s": 5.0,
    "wait_limit_s": 9.0,
    "shared_results": True,
    "latency_s": 7.0,
    "stage_to": "/scratch/dctkd",
    "stage_limit_gb": 8.0,
}


@pytest.mark.parametrize("key", SITE_KEYS)
def test_no_run_knows_of_what_a_site_says(tiny, key):
    assert key in Experiment.model_fields
    plans = [make_plan(resolve({**tiny, **change}, where="t"), config_file="t") for change in ({}, {key: VALUES[key]})]
    assert plans[0].config != plans[1].config
    assert [run.spec for run in plans[0].runs] == [run.spec for run in plans[1].runs]
