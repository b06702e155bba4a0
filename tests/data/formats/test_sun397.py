"""SUN397: what the manifest says of a complete copy, and of what real copies do to it."""

import time

import pytest

from dctkd.data.formats import parse_options, sun397
from dctkd.data.formats.sun397 import Options, read_manifest
from dctkd.data.manifest import Entry
from dctkd.data.prepare import prepare
from dctkd.errors import InputError
from tests.data.trees import USABLE, make_sun397, rewrite_list, spoil, write_list

LISTS = ("Training_01.txt", "Testing_01.txt")


@pytest.fixture
def root(tmp_path):
    return make_sun397(tmp_path / "data")


def read(root, partition=1):
    return read_manifest(root, Options(partition=partition))


def kinds(manifest):
    return [(problem.kind, problem.where) for problem in manifest.problems]


def lines_of(root, name):
    return (root / "Partitions" / name).read_text().splitlines()


def test_entries_follow_the_official_lists(root):
    manifest = read(root)
    assert [f"/{entry.id}" for entry in manifest.split("train")] == lines_of(root, "Training_01.txt")
    assert [f"/{entry.id}" for entry in manifest.split("test")] == lines_of(root, "Testing_01.txt")
    assert [entry.split for entry in manifest.entries] == ["train"] * 8 + ["test"] * 4


def test_labels_are_positions_in_the_list_of_classes_and_names_keep_their_slash(root):
    manifest = read(root)
    # Not sorted: the list has outdoor before indoor.
    assert manifest.classes == ("abbey", "athletic_field/outdoor", "athletic_field/indoor", "youth hostel + bar")
    name = "a/athletic_field/indoor/sun_b0001.jpg"
    assert Entry(name, name, 2, "train") in manifest.entries


def test_a_class_is_its_whole_folder_not_a_part_of_it(root):
    rewrite_list(root / "SUN397/ClassName.txt", lambda lines: [*lines, "/a/athletic_field"])
    labels = {entry.label for entry in read(root).entries if "outdoor" in entry.id}
    assert labels == {1}


def test_partitions_differ(root):
    first, second = read(root), read(root, 2)
    assert first.classes == second.classes
    assert [entry.id for entry in second.split("train")] == [line[1:] for line in lines_of(root, "Training_02.txt")]
    assert {entry.id for entry in second.split("train")} != {entry.id for entry in first.split("train")}


def test_the_tenth_partition_has_two_digits(tmp_path):
    root = make_sun397(tmp_path, partitions=(10,))
    assert len(read(root, 10).entries) == 12


@pytest.mark.parametrize("partition", [0, 11])
def test_there_are_ten_partitions(partition):
    with pytest.raises(InputError, match=r"^dataset\.options\.partition: .*got"):
        parse_options("sun397", {"partition": partition})


def test_a_partition_that_is_not_there_says_which_list_is_expected(root):
    with pytest.raises(InputError) as caught:
        read(root, 3)
    assert str(caught.value) == (
        f"data root {root}: expected there, or one level deeper: the list Training_03.txt "
        "(of Partitions.zip, lines /<letter>/<class>/<file>.jpg); found neither"
    )


def test_images_of_no_list_are_one_problem_with_their_number(root):
    (problem,) = read(root).problems
    assert (problem.kind, problem.where) == ("unlisted", ".")
    assert problem.message == "4 files are in no list and are not used, the first of them a/abbey/sun_d0003.jpg"


def test_one_level_deeper_and_the_folder_of_the_letters_give_the_same_entries(tmp_path, root):
    expected = read(root)
    (root / "Partitions").rename(root / "SUN397/Partitions")
    assert read(root / "SUN397").entries == expected.entries
    assert read(root).entries == expected.entries
    assert expected.root == root / "SUN397"


@pytest.mark.parametrize("folder", [".", "SUN397", "SUN397/lists", "lists"])
def test_lists_may_lie_elsewhere(root, folder):
    expected = read(root).entries
    (root / folder).mkdir(exist_ok=True)
    for name in LISTS:
        (root / "Partitions" / name).rename(root / folder / name)
    assert read(root).entries == expected


def test_the_list_of_classes_may_lie_with_the_others(root):
    expected = read(root)
    (root / "SUN397/ClassName.txt").rename(root / "Partitions/ClassName.txt")
    assert read(root).entries == expected.entries


@pytest.mark.parametrize("line_end", ["\r\n", "\n\n", "  \t\r\n\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_windows_line_ends_blank_lines_and_a_byte_order_mark_change_nothing(root, line_end, start):
    expected = read(root).entries
    for name in LISTS:
        rewrite_list(root / "Partitions" / name, line_end=line_end, start=start)
    rewrite_list(root / "SUN397/ClassName.txt", line_end=line_end, start=start)
    assert read(root).entries == expected


def test_lines_without_the_first_slash_mean_the_same(root):
    expected = read(root).entries
    rewrite_list(root / "Partitions/Training_01.txt", lambda lines: [line[1:] for line in lines])
    assert read(root).entries == expected


def test_extensions_in_capitals_are_taken_as_listed(root):
    path = root / "SUN397/a/abbey/sun_a0000.jpg"
    path.rename(path.with_suffix(".JPG"))
    rewrite_list(root / "Partitions/Training_01.txt", lambda lines: [lines[0].replace(".jpg", ".JPG"), *lines[1:]])
    assert read(root).entries[0].id == "a/abbey/sun_a0000.JPG"


def test_a_missing_file_is_left_out_and_listed(root):
    (root / "SUN397/a/abbey/sun_b0001.jpg").unlink()
    manifest = read(root)
    assert kinds(manifest) == [("missing", "Training_01.txt:2"), ("unlisted", ".")]
    assert len(manifest.entries) == 11


def test_an_image_listed_twice_counts_once(root):
    rewrite_list(root / "Partitions/Testing_01.txt", lambda lines: [*lines, "/a/abbey/sun_a0000.jpg"])
    assert kinds(read(root))[0] == ("duplicate", "Testing_01.txt:5")


def test_a_line_of_an_unknown_class_is_left_out_and_listed(root):
    rewrite_list(root / "Partitions/Testing_01.txt", lambda lines: [*lines, "/z/zoo/sun_a.jpg"])
    problem = read(root).problems[0]
    assert (problem.kind, problem.where) == ("label_range", "Testing_01.txt:5")
    assert problem.message == "z/zoo/sun_a.jpg is of class 'z/zoo', which ClassName.txt does not list"


def test_an_absolute_path_is_read_below_the_folder_of_the_letters(root):
    rewrite_list(root / "Partitions/Training_01.txt", lambda lines: [*lines, "/etc/passwd"])
    assert kinds(read(root))[0] == ("label_range", "Training_01.txt:9")


@pytest.mark.parametrize("path", ["../x.jpg", "/../x.jpg", "//etc/passwd", "/a/abbey/../../../x.jpg", "/a/\0.jpg", "/"])
@pytest.mark.parametrize("name", ["Partitions/Training_01.txt", "SUN397/ClassName.txt"])
def test_a_path_that_leaves_the_folder_is_an_error(root, path, name):
    rewrite_list(root / name, lambda lines: [path, *lines])
    with pytest.raises(InputError, match=r"\.txt:1: path .* may leave the dataset's folder"):
        read(root)


@pytest.mark.parametrize("lines", [["/a/abbey", "/b/bar", "a/abbey"], []])
def test_classes_must_differ_and_exist(root, lines):
    write_list(root / "SUN397/ClassName.txt", lines)
    with pytest.raises(InputError, match=r"ClassName\.txt.*; mend the list"):
        read(root)


def test_a_class_without_training_images_blocks(root):
    rewrite_list(root / "Partitions/Training_01.txt", lambda lines: lines[2:])
    assert ("empty_class", "class abbey") in kinds(read(root))


def test_a_missing_list_of_classes_is_an_error(root):
    (root / "SUN397/ClassName.txt").unlink()
    with pytest.raises(InputError, match=r"expected there, or one level deeper: the list ClassName\.txt"):
        read(root)


def test_a_root_without_letters_is_an_error(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=r"expected there, or one level deeper: the folders a, b, \.\.\. z"):
        read(tmp_path)


def test_a_missing_root_says_what_belongs_there(tmp_path):
    with pytest.raises(InputError, match=r"does not exist; expected there, .*SUN397.*ClassName\.txt"):
        read(tmp_path / "nowhere")


def test_linked_classes_are_read(tmp_path, root):
    expected = read(root).entries
    (root / "SUN397/a/abbey").rename(tmp_path / "elsewhere")
    (root / "SUN397/a/abbey").symlink_to(tmp_path / "elsewhere")
    assert read(root).entries == expected


def test_odd_photographs_are_packed(tmp_path, root):
    for line, how in zip(lines_of(root, "Training_01.txt"), USABLE, strict=True):
        spoil(root / "SUN397" / line[1:], how)
    cache = prepare("sun397", {}, root, 32, "fail", tmp_path / "cache", workers=1)
    assert cache.classes[1] == "athletic_field/outdoor"
    assert [problem.kind for problem in cache.problems].count("misnamed") == 5


def test_lists_as_long_as_the_official_ones_are_read_fast(tmp_path, monkeypatch):
    classes = [f"/{chr(97 + number % 26)}/class_{number:03d}" for number in range(397)]
    names = {split: [f"{one}/sun_{split}{index:012d}.jpg" for one in classes for index in range(50)] for split in "xy"}
    (tmp_path / "a").mkdir()
    write_list(tmp_path / "ClassName.txt", classes)
    write_list(tmp_path / "Training_01.txt", names["x"])
    write_list(tmp_path / "Testing_01.txt", names["y"])
    # The files are made up: 39,700 empty ones would take longer to make than the lists to read.
    present = {name[1:] for split in "xy" for name in names[split]}
    monkeypatch.setattr(sun397, "files_below", lambda root, folders: present)
    started = time.process_time()
    manifest = read(tmp_path)
    seconds = time.process_time() - started
    assert (len(manifest.entries), manifest.problems) == (39_700, ())
    assert seconds < 1.5  # 0.3 s alone on one core; a search of the lists or the disk per line takes minutes
