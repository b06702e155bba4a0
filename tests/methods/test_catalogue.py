"""The catalogue is up to date, and never trusted where it is not."""

import json
import re

import pytest

from dctkd.errors import InputError
from dctkd.methods import METHODS, catalogue


def test_catalogue_on_disk_is_up_to_date():
    stored = json.loads(catalogue.CATALOGUE.read_text(encoding="utf-8"))
    assert stored == catalogue.build(), "run `dctkd methods sync`"
    assert list(stored) == list(METHODS)


def test_read_gives_what_was_written(tmp_path):
    path = tmp_path / "catalogue.json"
    catalogue.write(path)
    assert catalogue.read(path) == catalogue.build()


def test_an_entry_with_another_source_is_replaced_by_the_live_class(tmp_path):
    path = tmp_path / "catalogue.json"
    entries = catalogue.build()
    entries["kd"] |= {"default_weight": 99.0, "source_sha256": "0" * 64}
    entries["dct"] |= {"default_weight": 99.0, "sources": ["base", "gone"]}
    entries["at"] |= {"title": "kept, for its source agrees"}
    path.write_text(json.dumps(entries))
    for name in ("kd", "dct"):
        assert catalogue.read(path)[name]["default_weight"] == METHODS[name].default_weight
    assert catalogue.read(path)["at"]["title"] == "kept, for its source agrees"


def test_an_entry_knows_every_module_that_its_class_and_options_come_from():
    entries = catalogue.read()
    assert entries["dct_release"]["sources"] == ["base", "dct", "dct_release", "options"]
    assert entries["fam"]["sources"] == ["base", "fam", "frequency_attention", "options"]


def test_a_missing_catalogue_is_built_from_the_classes(tmp_path):
    assert catalogue.read(tmp_path / "none.json") == catalogue.build()


def test_a_broken_catalogue_says_how_to_mend_it(tmp_path):
    path = tmp_path / "catalogue.json"
    path.write_text("<<<<<<< ours")
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: not valid JSON .*`dctkd methods sync`"):
        catalogue.read(path)


def test_validate_options_takes_a_name_or_an_entry():
    expected = {"temperature": 2.0, "standardise": False}
    assert catalogue.validate_options("kd", {"temperature": 2}, "x") == expected
    assert catalogue.validate_options(catalogue.describe(METHODS["kd"]), {"temperature": 2}, "x") == expected


def test_validate_options_fills_in_defaults():
    assert catalogue.validate_options("kd", {}, "x") == {"temperature": 4.0, "standardise": False}
    assert catalogue.validate_options("at", {}, "x") == {"skip_first_stage": False}
    assert catalogue.validate_options("sp", {}, "x") == {}


def test_validate_options_of_an_unknown_method_suggests_the_nearest():
    with pytest.raises(InputError, match=r"unknown method 'kdd'; did you mean 'kd' or 'rkd'\?"):
        catalogue.validate_options("kdd", {}, "x")
