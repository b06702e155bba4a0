"""The table, `create`, and methods from a user's file."""

import subprocess
import sys
from pathlib import Path

import pytest

import dctkd.methods
from dctkd.errors import InputError
from dctkd.methods import METHODS, create, load_method
from dctkd.methods.base import DataSpec, Method
from dctkd.methods.contract_trial import DATA, PAIRS
from dctkd.models import ModelSpec

SPEC = ModelSpec(num_classes=2, stages=(), pooled_dim=1)

MINE = '''
"""A method of one's own."""
from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from dctkd.methods.base import Method
from dctkd.methods.options import MethodOptions

class MineOptions(MethodOptions):
    low: float = Field(0.0, ge=0, description="no unit")
    high: float = Field(1.0, ge=0, description="no unit")
    kind: Literal["one", "two"] = Field("one", description="no unit")

    @model_validator(mode="after")
    def _ordered(self):
        if self.low > self.high:
            raise ValueError("low must not exceed high")
        return self

class Mine(Method):
    """Squared distance of the logits."""
    Options = MineOptions
    title = "Mine"
    paper = "Unpublished"
    year = 2024
    features = "logits"
    default_weight = 1.0
    default_weight_source = "a guess"

    def forward(self, student, teacher, batch):
        return {"mse": batch.mean((student.logits_BK.float() - teacher.logits_BK.float()).square().sum(dim=1))}
'''


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.py"
    file.write_text(text)
    return file


def test_names_files_and_classes_agree():
    folder = Path(dctkd.methods.__file__).parent
    for name, method_class in METHODS.items():
        assert issubclass(method_class, Method)
        assert (folder / f"{name}.py").is_file()
        assert "+" not in name  # The engine owns '+kd'.


def test_the_baseline_is_the_first_row():
    assert next(iter(METHODS)) == "baseline"


def test_unknown_method_suggests_the_nearest():
    with pytest.raises(InputError, match=r"^unknown method 'dtc'; did you mean 'dct'\?$"):
        METHODS["dtc"]
    assert "dtc" not in METHODS


def test_listing_methods_and_checking_options_imports_no_torch():
    code = (
        "import sys; from dctkd.methods import METHODS, catalogue; list(METHODS); catalogue.read();"
        "catalogue.validate_options('kd', {'temperature': 2}, 'x');"
        "sys.exit(', '.join({'torch', 'timm', 'pydantic'} & set(sys.modules)) or 0)"
    )
    root = Path(dctkd.methods.__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert (result.returncode, result.stderr) == (0, "")


def test_create_names_the_option_that_is_unknown():
    with pytest.raises(InputError, match=r"^kd: options: unknown option 'temprature'; did you mean 'temperature'\?$"):
        create("kd", SPEC, SPEC, DataSpec(2, 1, (0,)), temprature=3)


def test_create_says_the_range_of_an_option():
    with pytest.raises(InputError, match=r"^kd: options.temperature: expected a number > 0, got -1$"):
        create("kd", SPEC, SPEC, DataSpec(2, 1, (0,)), temperature=-1)


def test_create_reports_a_rule_over_several_options_on_one_line(tmp_path):
    method_class = load_method(write(tmp_path, MINE))
    with pytest.raises(InputError, match=r"^Mine: options: low must not exceed high$"):
        create(method_class, SPEC, SPEC, DataSpec(2, 1, (0,)), low=2, high=1)


def test_a_users_method_is_made_with_its_options(tmp_path):
    method_class = load_method(write(tmp_path, MINE))
    method = create(method_class, PAIRS[0].student, PAIRS[0].teacher, DATA, kind="two", high=3)
    assert method.options.model_dump() == {"low": 0.0, "high": 3.0, "kind": "two"}


def test_the_same_file_gives_the_same_class_and_an_edited_one_another(tmp_path):
    first = load_method(write(tmp_path, MINE))
    assert load_method(tmp_path / "mine.py") is first
    edited = load_method(write(tmp_path, MINE.replace("= 1.0\n", "= 2.0\n")))
    assert (first.default_weight, edited.default_weight) == (1.0, 2.0)


def test_loading_leaves_nothing_beside_the_file(tmp_path):
    load_method(write(tmp_path, MINE))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "expected exactly one subclass of dctkd.methods.base.Method, found none"),
        ("from dctkd.methods.at import AT\n", "found none"),
        (MINE + "class Other(Mine):\n    pass\n", "found Mine, Other"),
        ("def broken(:\n", "this file does not run: SyntaxError"),
        ("import no_such_package\n", "this file does not run: ModuleNotFoundError: No module named 'no_such_package'"),
        (MINE.replace("    title", "    name"), "Mine lacks the class attributes title"),
    ],
)
def test_a_file_without_exactly_one_method_is_refused(tmp_path, text, message):
    file = write(tmp_path, text)
    with pytest.raises(InputError, match=f"^{file}: ") as caught:
        load_method(file)
    assert message in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.py: cannot be read \(No such file or directory\)"):
        load_method(tmp_path / "none.py")
