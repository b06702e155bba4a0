"""An option that joins a method later leaves the identity of the runs from before, and only of those."""

import copy

import pytest

from dctkd.config import resolve
from dctkd.methods import METHODS, catalogue, create
from dctkd.methods.contract_trial import DATA, PAIRS
from dctkd.methods.options import MethodOptions, later_option
from dctkd.plan import make_plan
from tests.test_plan import RAW

BEFORE = '''
"""A method of one's own."""
from pydantic import Field
from dctkd.methods.at import AT
from dctkd.methods.options import MethodOptions, later_option

class MineOptions(MethodOptions):
    first: float = Field(1.0, description="no unit")
    second: float = later_option(2, ge=0, description="no unit")

class Mine(AT):
    """Attention transfer under another name."""
    Options = MineOptions
'''


class Options(MethodOptions):
    number: float = later_option(2, gt=0, description="no unit")
    flag: bool | int = later_option(False, description="a switch or a count")
    sizes: tuple[int, ...] = later_option((1, 2), description="no unit")


def identified(**options):
    return catalogue.identify_options({"options_schema": Options.model_json_schema()}, options, "x")


@pytest.mark.parametrize("options", [{}, {"number": 2}, {"number": 2.0, "flag": False, "sizes": [1, 2]}])
def test_a_later_option_at_its_default_is_left_out_however_it_is_written(options):
    assert identified(**options) == {}


@pytest.mark.parametrize("options", [{"number": 3.0}, {"flag": 0}, {"flag": True}, {"sizes": [2, 1]}])
def test_a_later_option_with_another_value_is_part_of_the_identity(options):
    assert identified(**options) == options


def test_every_other_option_is_part_of_the_identity_at_its_default_too():
    assert catalogue.identify_options("kd", {}, "x") == {"temperature": 4.0, "standardise": False}


def run_of(tmp_path, options):
    raw = copy.deepcopy(RAW)
    raw["methods"] = {"mine": {"file": "mine.py", "options": options}}
    (tmp_path / "mine.py").write_text(BEFORE)
    file = tmp_path / "tiny.yaml"
    return make_plan(resolve(raw, where=str(file)), config_file=str(file)).runs[0]


def test_a_later_option_of_a_users_file_moves_the_spec_only_with_another_value(tmp_path):
    plain = run_of(tmp_path, {})
    assert plain.identity["method"]["options"] == {"first": 1.0}
    assert run_of(tmp_path, {"second": 2}).spec == plain.spec
    assert run_of(tmp_path, {"second": 3}).spec != plain.spec


@pytest.mark.parametrize("name", METHODS)
def test_a_method_made_from_its_identity_has_every_option(name):
    method_class = METHODS[name]
    options = method_class.Options()
    method = create(name, PAIRS[0].student, PAIRS[0].teacher, DATA, **catalogue.identify_options(name, {}, "x"))
    assert method.options == options


BEFORE_LATER_OPTIONS = {
    "at": {},
    "dct": {},
    "dct_release": {},
    "dct_main": {},
    "semckd": {"similarity_size": 128, "mid_channels": 512, "skip_first_stage": False},
}
"""What runs of these methods have stored of their options since before they had later ones."""


@pytest.mark.parametrize("name", BEFORE_LATER_OPTIONS)
def test_a_plain_row_has_the_identity_from_before_the_later_options(name):
    assert catalogue.identify_options(name, {}, "x") == BEFORE_LATER_OPTIONS[name]


@pytest.mark.parametrize(
    ("name", "option"),
    [("at", "skip_first_stage"), ("semckd", "freeze_batch_norm")]
    + [(name, "size_normalised") for name in ("dct", "dct_release", "dct_main", "map_l2", "dft_magnitude")],
)
def test_a_row_with_a_later_option_is_another_run(name, option):
    raw = copy.deepcopy(RAW)
    raw["methods"] = {
        "plain": {"method": name},
        "said": {"method": name, "options": {option: False}},
        "other": {"method": name, "options": {option: True}},
    }
    specs = {run.method: run.spec for run in make_plan(resolve(raw, where="x.yaml"), config_file="x.yaml").runs}
    assert specs["plain"] == specs["said"] != specs["other"]
