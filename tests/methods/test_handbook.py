"""docs/methods.md is what the code says."""

from pathlib import Path

import pytest

from dctkd.methods import METHODS, handbook

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_handbook_on_disk_is_up_to_date():
    assert DOCS.read_text(encoding="utf-8") == handbook.render(), "run `make catalogue`"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_section_with_its_options_and_the_source_of_its_weight(name):
    _, _, rest = handbook.render().partition(f"\n## {name}\n")
    section = rest.partition("\n## ")[0]
    assert METHODS[name].title in section
    assert METHODS[name].default_weight_source in section
    assert all(f"| `{option}` |" in section for option in METHODS[name].Options.model_fields)


def test_methods_that_are_left_out_are_named_with_the_reason():
    assert "SimKD and CAT-KD need the teacher's classifier" in " ".join(handbook.render().split())
