"""Whatever an experiment file holds: it is a plan, or an InputError says why not."""

import contextlib
import copy
import functools
import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from dctkd import cli
from dctkd.config import load, resolve
from dctkd.errors import InputError
from dctkd.plan import make_plan
from dctkd.plan_file import read_plan_of_jobs
from tests.conftest import TINY
from tests.fuzz.cases import JSON_VALUES, NUM_CASES, TEXT, VALUES, mutate, tries

RICH = {
    **TINY,
    "variant": "small",
    "variants": {"small": {"seeds": [1], "recipes": {"short": {"epochs": 1}}}},
    "data_root": "photographs",
    "methods": {
        "baseline": None,
        "kd": {"options": {"temperature": 2}},
        "at+kd": {"weight": 3, "warmup_epochs": 1, "ce": 0.5},
        "mine": {"method": "fam", "options": {}},
    },
    "kd": {"weight": 1, "temperature": 4},
    "seeds": [0, 1],
    "teacher_seed": "matched",
    "students_per_job": 2,
    "map_sources": ["gradcam"],
}
SYNTAX = st.sampled_from(
    list("[]{}&*!|>-?:,#%@`'\"\n\t 0a~=<.")
    + [
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "!!python/name:os.system ",
        "\n  ",
        ": ",
        "- ",
        "---\n",
        "...",
        "? ",
        "0x",
        "1:30",
        "2020-01-01",
    ]
    + [f"{key}: " for key in RICH]
)


def test_total_is_at_least_ten_thousand_cases():
    assert sum(NUM_CASES.values()) >= 10_000


@functools.cache
def _whole_plan():
    return make_plan(resolve(TINY, where="x"), config_file="tiny.yaml").to_json()


def _plan_of(experiment):
    plan = make_plan(experiment, config_file="tiny.yaml")
    plan.to_json()
    assert plan.packs


def test_the_unchanged_experiment_is_a_plan(tmp_path):
    _plan_of(resolve(RICH, where="tiny.yaml"))
    (tmp_path / "plan.json").write_text(_whole_plan())
    assert read_plan_of_jobs(tmp_path / "plan.json").packs


@tries("experiment mutations")
@given(data=st.data())
def test_a_changed_experiment_is_a_plan_or_an_input_error(data):
    raw = mutate(data.draw, copy.deepcopy(RICH), VALUES)
    with contextlib.suppress(InputError):
        _plan_of(resolve(raw, where="tiny.yaml"))


@tries("experiment text")
@given(text=st.lists(SYNTAX | TEXT, max_size=25).map("".join), cut=st.integers(0, 1500))
def test_any_text_is_an_experiment_or_an_input_error(tmp_path, text, cut):
    path = tmp_path / "any.yaml"
    whole = yaml.safe_dump(RICH)
    path.write_text(f"{whole[:cut]}{text}{whole[cut:]}", encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(InputError):
        _plan_of(load(path))


@tries("experiment bytes")
@given(content=st.binary(max_size=200))
def test_any_bytes_are_an_experiment_or_an_input_error(tmp_path, content):
    path = tmp_path / "any.yaml"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        load(path)


@tries("settings")
@given(settings=st.lists(st.builds("{}={}".format, st.sampled_from([*RICH]) | TEXT, TEXT) | TEXT, max_size=3))
def test_any_settings_are_read_or_an_input_error(settings):
    with contextlib.suppress(InputError):
        resolve({**RICH, **cli._key_values("--set", settings)}, where="tiny.yaml")


@tries("plans")
@given(data=st.data())
def test_a_changed_plan_is_read_or_an_input_error(tmp_path, data):
    raw = mutate(data.draw, json.loads(_whole_plan()), JSON_VALUES)
    path = tmp_path / "plan.json"
    text = json.dumps(raw)
    path.write_text(text[: data.draw(st.integers(0, 200)) * 100 + 1] if data.draw(st.booleans()) else text)
    with contextlib.suppress(InputError):
        plan = read_plan_of_jobs(path)
        assert plan.data_spec
        for run in plan.runs:
            assert plan.at(run.path) == run
            assert plan.teacher_of(run)
            assert plan.data_identity(run.dataset)
