"""YAML that would fill the memory, run for ever or make objects ends in one line, within a second and little memory."""

import time
import tracemalloc
from pathlib import Path

import pytest
import yaml

from dctkd.config import load, resolve
from dctkd.errors import InputError
from dctkd.yaml_text import MAX_BYTES, MAX_WEIGHT, parse_yaml, require_plain

MAX_CPU_S = 1.0
MAX_PEAK_BYTES = 2**26


def _levels(start, form, number=12):
    return f"a0: &a0 {start}\n" + "".join(f"a{i}: &a{i} {form(f'*a{i - 1}')}\n" for i in range(1, number))


LIST_BOMB = _levels("[x, x, x]", lambda below: f"[{', '.join([below] * 9)}]")
MAPPING_BOMB = _levels("{k: x}", lambda below: f"{{{', '.join(f'k{j}: {below}' for j in range(9))}}}")
TEXTS = {
    "list bomb": LIST_BOMB,
    "mapping bomb": MAPPING_BOMB,
    "merge bomb": _levels("{k: x}", lambda below: f"{{<<: [{', '.join([below] * 9)}]}}"),
    "text bomb": f"a: &a {'x' * 30_000}\nb: [{', '.join(['*a'] * 5_000)}]",
    "chain of aliases": _levels("[x]", lambda below: f"[{below}]", number=2_000),
    "brackets": "x: " + "[" * 60_000,
    "closed brackets": "x: " + "[" * 30_000 + "]" * 30_000,
    "many brackets": "x: " + "[" * 100_000 + "]" * 100_000,
    "braces": "x: " + "{a: " * 15_000,
    "dashes": "- " * 30_000,
    "question marks": "? " * 30_000,
    "a list within itself": "a: &a [*a]",
    "a mapping within itself": "a: &a {b: *a}",
    "a merge of itself": "a: &a {<<: *a}",
    "an alias of a list as a key": "a: &x [1]\n? *x\n: 2",
    "seconds": "a: 1" + ":59" * 20_000,
    "seconds with a point": "a: 1" + ":59" * 20_000 + ".5",
    "digits": "a: " + "9" * 60_000,
    "hexadecimal digits": "a: 0x" + "f" * 60_000,
    "half a number": "a: 0x_",
    "an object": "a: !!python/object/apply:os.system ['touch executed']",
    "a new object": "a: !!python/object/new:os.system ['touch executed']",
    "a name": "a: !!python/name:os.system",
    "a module": "a: !!python/module:antigravity",
    "bytes": "a: !!binary aGVsbG8=",
    "the tag of a value": "a: =",
    "not a number": "a: .nan",
    "infinity": "a: -.inf",
    "half a pair": 'a: "\\ud800"',
    "a NUL": 'a: "\\0"',
    "a gigabyte": None,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_hostile_text_ends_in_one_line_soon_and_in_little_memory(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    path = Path("hostile.yaml")
    if text is None:
        with path.open("wb") as file:
            file.truncate(2**30)  # a hole: takes no space
    else:
        path.write_text(text)
    started = time.process_time()
    with pytest.raises(InputError, match=r"^hostile\.yaml: ") as caught:
        load(path)
    assert time.process_time() - started < MAX_CPU_S
    assert len(str(caught.value)) < 1000
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", [name for name in TEXTS if "bomb" in name or "brackets" in name])
def test_hostile_text_takes_little_memory(name):
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            parse_yaml(TEXTS[name], where="hostile.yaml")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < MAX_PEAK_BYTES


@pytest.mark.parametrize("text", [LIST_BOMB, MAPPING_BOMB], ids=["list", "mapping"])
def test_a_bomb_that_somebody_else_has_parsed_is_refused_unexpanded(text):
    raw = yaml.safe_load(text)  # as Snakemake does: shared lists are small until somebody writes them out
    started = time.process_time()
    with pytest.raises(InputError, match=r"tiny: .*use fewer aliases"):
        resolve(raw, where="tiny")
    assert time.process_time() - started < MAX_CPU_S


def test_a_value_within_itself_that_somebody_else_has_parsed_is_refused():
    with pytest.raises(InputError, match=r"tiny: a\.0: holds itself"):
        resolve(yaml.safe_load("a: &a [*a]"), where="tiny")


def test_a_deep_value_that_somebody_else_has_parsed_is_refused():
    raw = value = []
    for _ in range(100_000):
        value.append([])
        value = value[0]
    with pytest.raises(InputError, match="nested deeper than 40 levels"):
        resolve({"a": raw}, where="tiny")


def test_a_small_alias_is_what_it_stands_for():
    assert parse_yaml("a: &x [1, 2]\nb: *x\nc: {<<: {d: 3}}", where="x") == {"a": [1, 2], "b": [1, 2], "c": {"d": 3}}


def test_as_many_values_as_are_allowed_are_allowed():
    require_plain([0] * (MAX_WEIGHT - 1), where="x")
    with pytest.raises(InputError):
        require_plain([0] * MAX_WEIGHT, where="x")


def test_as_many_bytes_as_are_allowed_are_allowed(tmp_path):
    start = b"experiment: tiny #"
    path = tmp_path / "long.yaml"
    path.write_bytes(start + b"x" * (MAX_BYTES - len(start)))
    with pytest.raises(InputError, match="this key is required"):
        load(path)
    path.write_bytes(start + b"x" * (MAX_BYTES - len(start) + 1))
    with pytest.raises(InputError, match="longer than 65536 bytes"):
        load(path)
