from pathlib import Path

import pytest

from dctkd.data.manifest import Entry, Manifest, Problem, check_problems, class_problems
from dctkd.errors import InputError

TRAIN, TEST = Entry("t", "t.jpg", 0, "train"), Entry("v", "v.jpg", 0, "test")


def manifest(*problems, entries=(TRAIN, TEST)):
    return Manifest("miniplaces", ("abbey",), entries, problems, Path("/photos"))


def test_a_manifest_without_problems_passes():
    check_problems(manifest(), "fail")


def test_information_does_not_stop():
    check_problems(
        manifest(Problem("unlisted", "x.jpg", "it is in no list"), Problem("untested_class", "c", "m")), "fail"
    )


def test_fail_counts_all_problems_and_names_the_first_three_on_one_line():
    problems = [Problem("missing", f"train.txt:{line}", f"{line}.jpg does not exist") for line in range(1, 6)]
    with pytest.raises(InputError) as caught:
        check_problems(manifest(Problem("duplicate", "val.txt:9", "again"), *problems), "fail")
    assert str(caught.value) == (
        "miniplaces in /photos: 1 duplicate, 5 missing: val.txt:9: again; train.txt:1: 1.jpg does not exist; "
        "train.txt:2: 2.jpg does not exist; ...; "
        "mend the files or lists, or set on_problem: drop to go on without these images"
    )


def test_drop_goes_on():
    check_problems(manifest(Problem("missing", "train.txt:1", "gone")), "drop")


@pytest.mark.parametrize(("left", "empty"), [(TRAIN, "test"), (TEST, "train")])
def test_a_split_without_images_stops_even_with_drop(left, empty):
    with pytest.raises(InputError, match=f"no usable {empty} image"):
        check_problems(manifest(entries=(left,)), "drop")


def test_split_keeps_official_order():
    entries = tuple(Entry(name, name, 0, "train") for name in "cab")
    assert [entry.id for entry in manifest(entries=(*entries, TEST)).split("train")] == ["c", "a", "b"]


def test_a_class_without_training_image_blocks_and_one_without_test_image_is_information():
    found = class_problems(("abbey", "bar"), (TRAIN, TEST, Entry("x", "x.jpg", 1, "test")))
    assert [(problem.kind, problem.where) for problem in found] == [("empty_class", "class bar")]
    found = class_problems(("abbey", "bar"), (TRAIN, TEST, Entry("x", "x.jpg", 1, "train")))
    assert [(problem.kind, problem.where) for problem in found] == [("untested_class", "class bar")]
