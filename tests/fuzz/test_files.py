"""Whatever lists, annotations and published results hold: they are read, or an InputError says why not."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dctkd.config import resolve
from dctkd.data import formats
from dctkd.data.formats import ade20k_objects, miniplaces_objects
from dctkd.data.formats.official_lists import plain_path, read_lines, split_number
from dctkd.data.manifest import check_problems
from dctkd.engine.job import make_job
from dctkd.errors import InputError
from dctkd.metrics import Result
from dctkd.plan import make_plan
from dctkd.report.collect import gather
from dctkd.report.edges import read_metrics
from dctkd.store import Store, read_edge
from tests.bad_input.command import write_miniplaces
from tests.conftest import TINY
from tests.data import trees
from tests.fuzz.cases import JSON_VALUES, TEXT, mutate, tries

FORMATS = {
    "ade20k": trees.make_ade20k,
    "miniplaces": write_miniplaces,
    "mit67": trees.make_mit67,
    "sun397": trees.make_sun397,
}
LINE = st.one_of(
    TEXT,
    st.builds("{} {}".format, TEXT, st.integers() | TEXT),
    st.builds("/{}/{}".format, st.sampled_from("abz"), TEXT),
    st.builds("{}/{}.jpg".format, TEXT, TEXT),
    st.builds("ADE_{}_{:08d} {}".format, st.sampled_from(["train", "val", "x"]), st.integers(0, 20), TEXT),
    st.sampled_from(
        ["\ufeff", "\r", "\x0c", "\x85", "\u2028", "\u0661", "a 1e3", "a \u0665", "a 1_000", "a " + "9" * 5000]
    ),
)
LIST_READERS = {
    "lines": lambda path: [line.where for line in read_lines(path)],
    "numbers": lambda path: [split_number(line, "x 1") for line in read_lines(path)],
    "paths": lambda path: [plain_path(line, line.text) for line in read_lines(path)],
    "categories": ade20k_objects.read_categories,
}


def _write(path, text):
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return path


@tries("list lines")
@given(lines=st.lists(LINE, max_size=6), reader=st.sampled_from(sorted(LIST_READERS)))
def test_any_lines_are_a_list_or_an_input_error(tmp_path, lines, reader):
    path = _write(tmp_path / "list.txt", "\n".join(lines))
    with contextlib.suppress(InputError):
        LIST_READERS[reader](path)


@tries("list bytes")
@given(content=st.binary(max_size=80), reader=st.sampled_from(sorted(LIST_READERS)))
def test_any_bytes_are_a_list_or_an_input_error(tmp_path, content, reader):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        LIST_READERS[reader](path)


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Small copies of every dataset with lists, and the text of these lists."""
    found = {}
    for name, make in FORMATS.items():
        root = make(tmp_path_factory.mktemp(name))
        lists = {path: path.read_text() for path in sorted(root.rglob("*.txt"))}
        found[name] = root, lists
    return found


@tries("manifests")
@given(data=st.data())
def test_a_copy_with_changed_lists_is_read_or_an_input_error(copies, data):
    name = data.draw(st.sampled_from(sorted(copies)))
    root, lists = copies[name]
    path = data.draw(st.sampled_from(sorted(lists)))
    lines = lists[path].split("\n")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(lines)))
        how = data.draw(st.sampled_from(["insert", "replace", "drop", "double", "mix"]))
        line = data.draw(LINE)
        if how == "insert" or place >= len(lines):
            lines.insert(place, line)
        elif how == "replace":
            lines[place] = line
        elif how == "drop":
            del lines[place]
        elif how == "double":
            lines.insert(place, lines[place])
        else:
            lines[place] = lines[place][: data.draw(st.integers(0, 20))] + line
    try:
        _write(path, "\n".join(lines))
        with contextlib.suppress(InputError):
            manifest = formats.get(name).read_manifest(root, formats.parse_options(name, {}))
            assert all(entry.label < len(manifest.classes) for entry in manifest.entries)
            check_problems(manifest, data.draw(st.sampled_from(["fail", "drop"])))
    finally:
        path.write_text(lists[path])


TAGS = ("class", "objects", "polygon", "pt", "x", "y")
MARKUP = ("<deleted>1</deleted>", "<!DOCTYPE x>", "<!ENTITY a 'b'>", "&a;", "<?xml?>", "<![CDATA[", "1", "-5", "1e9")
PARTS = (*MARKUP, *(f"<{tag}>" for tag in TAGS), *(f"</{tag}>" for tag in TAGS))
XML = st.lists(st.sampled_from(PARTS) | TEXT, max_size=25).map("".join)
POLYGON = "<class>0</class><objects><class>1</class><polygon>{}</polygon></objects>"
POINTS = st.lists(
    st.builds("<pt><x>{}</x><y>{}</y></pt>".format, st.integers() | TEXT, st.integers() | TEXT), max_size=5
)


@tries("annotations")
@given(text=XML | POINTS.map("".join).map(POLYGON.format))
def test_any_annotation_is_read_or_refused_as_its_reader_says(tmp_path, text):
    path = _write(tmp_path / "a.xml", text)
    with contextlib.suppress(ValueError, miniplaces_objects.ElementTree.ParseError):
        miniplaces_objects.read_polygons(path, {1: 1}, label=0)


EDGES = {
    "data.json": {
        "fingerprint": "a",
        "cache": "cache/x",
        "num_classes": 2,
        "num_train_images": 3,
        "num_test_images": 3,
    },
    "teacher.json": {"status": "ok", "digest": "0123456789abcdef"},
}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    results = tmp_path_factory.mktemp("job") / "results"
    plan = make_plan(resolve(TINY, where="x"), config_file="tiny.yaml")
    paths = {"data.json": results / "tiny/shapes/data.json", "teacher.json": results / plan.teachers[0].path}
    for name, path in paths.items():
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(EDGES[name]))
    return plan, results, paths


@tries("edges")
@given(data=st.data())
def test_a_changed_edge_is_read_or_an_input_error(job, data):
    plan, results, paths = job
    name = data.draw(st.sampled_from(sorted(paths)))
    content = data.draw(st.just(None) | JSON_VALUES) or mutate(data.draw, dict(EDGES[name]), JSON_VALUES)
    text = json.dumps(content)
    try:
        paths[name].write_text(text[: data.draw(st.integers(0, 200))])
        with contextlib.suppress(InputError):
            read_edge(paths[name])
            made = make_job(plan, plan.runs, results, device="cpu")
            assert made.teacher_folder.path.parent == Store(results).path
    finally:
        paths[name].write_text(json.dumps(EDGES[name]))


METRICS = {
    "schema": 1,
    "status": "ok",
    "digest": "0123456789abcdef",
    "spec": "x",
    "kind": "student",
    "run": {"dataset": "shapes", "teacher": "wide", "student": "narrow", "method": "kd", "seed": 0, "epochs": 2},
    "results": [{"metric": "top1_percent", "stage": "last", "split": "test", "value": 50.0, "unit": "percent"}],
    "detail": {"epoch": 1, "reason": "x"},
}


def test_the_unchanged_metrics_are_read(job):
    plan, results, _ = job
    path = results / plan.runs[0].path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(METRICS))
    assert read_metrics(path, plan).results == (Result("top1_percent", "last", "test", 50.0, "percent"),)


@tries("metrics")
@given(data=st.data())
def test_changed_metrics_are_read_or_an_input_error(job, data):
    plan, results, _ = job
    path = results / plan.runs[1].path
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {**json.loads(json.dumps(METRICS)), "spec": plan.runs[1].spec}
    content = mutate(data.draw, whole, JSON_VALUES)
    try:
        path.write_text(json.dumps(content)[: data.draw(st.just(10_000) | st.integers(0, 500))])
        (results / "tiny/plan.json").write_text(plan.to_json())
        with contextlib.suppress(InputError):
            gather(results / "tiny", None, partial=True)
    finally:
        path.unlink()
