"""MIT67: what the manifest says of a complete copy, and of what real copies do to it."""

import pytest

from dctkd.data.formats.mit67 import Options, read_manifest
from dctkd.data.manifest import Entry
from dctkd.data.prepare import prepare
from dctkd.errors import InputError
from tests.data.trees import MIT67_CLASSES, UNUSABLE, USABLE, make_mit67, rewrite_list, save_photograph, spoil

LISTS = ("TrainImages.txt", "TestImages.txt")


@pytest.fixture
def root(tmp_path):
    return make_mit67(tmp_path / "data", num_unlisted=0)


def read(root):
    return read_manifest(root, Options())


def kinds(manifest):
    return [(problem.kind, problem.where) for problem in manifest.problems]


def lines_of(root, name):
    return (root / name).read_text().splitlines()


def test_entries_follow_the_official_lists(root):
    manifest = read(root)
    assert manifest.problems == ()
    assert [entry.id for entry in manifest.split("train")] == lines_of(root, "TrainImages.txt")
    assert [entry.id for entry in manifest.split("test")] == lines_of(root, "TestImages.txt")
    assert [entry.split for entry in manifest.entries] == ["train"] * 8 + ["test"] * 4


def test_labels_follow_the_sorted_class_names_not_the_lists(root):
    manifest = read(root)
    assert manifest.classes == MIT67_CLASSES  # sorted by hand
    assert lines_of(root, "TrainImages.txt")[0].startswith("inside bus/")
    name = "bar + grill/a b+0000.JPG"
    assert Entry(name, f"Images/{name}", 1, "train") in manifest.entries


def test_capital_letters_sort_before_small_ones(root):
    rewrite_list(root / "TestImages.txt", lambda lines: [*lines, "Zoo/a b+0000.JPG"])
    save_photograph(root / "Images/Zoo/a b+0000.JPG", 90)
    assert read(root).classes == ("Zoo", *MIT67_CLASSES)


def test_unlisted_images_are_one_problem_with_their_number(tmp_path):
    manifest = read(make_mit67(tmp_path, num_unlisted=9))
    (problem,) = manifest.problems
    assert (problem.kind, problem.where) == ("unlisted", "Images")
    assert problem.message == (
        "9 files are in no list and are not used, the first of them Images/inside bus/unlisted_0.jpg"
    )
    assert len(manifest.entries) == 12


def test_one_level_deeper_gives_the_same_entries(tmp_path, root):
    assert read(tmp_path).entries == read(root).entries


@pytest.mark.parametrize("folder", ["data/lists", ".", "lists"])
def test_lists_may_lie_elsewhere(tmp_path, root, folder):
    expected = read(root).entries
    (tmp_path / folder).mkdir(exist_ok=True)
    for name in LISTS:
        (root / name).rename(tmp_path / folder / name)
    assert read(tmp_path).entries == expected


def test_lists_in_two_folders_are_ambiguous(root):
    text = (root / "TestImages.txt").read_text()
    (root / "TestImages.txt").unlink()
    for folder in ("a", "b"):
        (root / folder).mkdir()
        (root / folder / "TestImages.txt").write_text(text)
    with pytest.raises(InputError, match=r"data: a, b each hold TestImages\.txt; keep one of them$"):
        read(root)


@pytest.mark.parametrize("line_end", ["\r\n", "\n\n", "  \t\r\n\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_windows_line_ends_blank_lines_and_a_byte_order_mark_change_nothing(root, line_end, start):
    expected = read(root).entries
    for name in LISTS:
        rewrite_list(root / name, line_end=line_end, start=start)
    assert read(root).entries == expected


def test_a_missing_file_is_left_out_and_listed(root):
    (root / "Images/children_room/T_0000.JPG").unlink()
    manifest = read(root)
    assert kinds(manifest) == [("missing", "TestImages.txt:3"), ("untested_class", "class children_room")]
    assert len(manifest.entries) == 11


def test_an_image_in_both_lists_counts_in_training_only(root):
    name = lines_of(root, "TrainImages.txt")[0]
    rewrite_list(root / "TestImages.txt", lambda lines: [*lines, name])
    manifest = read(root)
    assert kinds(manifest) == [("duplicate", "TestImages.txt:5")]
    assert [entry.split for entry in manifest.entries if entry.id == name] == ["train"]


def test_a_class_without_training_images_blocks(root):
    rewrite_list(root / "TrainImages.txt", lambda lines: [line for line in lines if "airport" not in line])
    assert ("empty_class", "class airport_inside") in kinds(read(root))


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/passwd.jpg", "bar/../../secret.jpg", "bar/\0.jpg"])
def test_a_path_that_leaves_the_folder_is_an_error(root, path):
    rewrite_list(root / "TrainImages.txt", lambda lines: [*lines, path])
    with pytest.raises(InputError, match=r"TrainImages\.txt:9: path .* may leave the dataset's folder"):
        read(root)


@pytest.mark.parametrize("line", ["a.jpg", "a/b/c.jpg"])
def test_a_line_without_exactly_one_class_is_an_error(root, line):
    rewrite_list(root / "TestImages.txt", lambda lines: [line, *lines])
    with pytest.raises(InputError, match=r"TestImages\.txt:1: expected a line '<class>/<file>\.jpg', got '"):
        read(root)


@pytest.mark.parametrize("name", LISTS)
def test_a_missing_list_is_one_line_that_says_what_is_expected(root, name):
    (root / name).unlink()
    with pytest.raises(InputError) as caught:
        read(root)
    assert str(caught.value) == (
        f"data root {root}: expected there, or one level deeper: the list {name} (lines <class>/<file>.jpg); "
        "found neither"
    )


def test_a_missing_root_says_what_belongs_there(tmp_path):
    with pytest.raises(InputError, match=r"nowhere does not exist; expected there, .* Images, .*TrainImages\.txt"):
        read(tmp_path / "nowhere")


def test_a_root_without_images_is_an_error(tmp_path):
    with pytest.raises(InputError, match="expected there, or one level deeper: the folder Images; found neither"):
        read(tmp_path)


def test_odd_photographs_are_packed_and_named(tmp_path, root):
    spoiled = dict(zip(lines_of(root, "TrainImages.txt"), USABLE, strict=True))
    for name, how in spoiled.items():
        spoil(root / "Images" / name, how)
    cache = prepare("mit67", {}, root, 32, "fail", tmp_path / "cache", workers=1)
    assert (cache.num_images("train"), cache.num_images("test")) == (8, 4)
    found = {(problem.kind, spoiled[problem.where.removeprefix("Images/")]) for problem in cache.problems}
    assert found == {
        *(("misnamed", how) for how in ("png", "gif", "bmp", "palette", "sixteen_bit")),
        ("sixteen_bit", "sixteen_bit"),
    }


@pytest.mark.parametrize("how", UNUSABLE)
def test_a_broken_photograph_stops_and_is_named(tmp_path, root, how):
    spoil(root / "Images/children_room/a b+0001.jpg", how)
    with pytest.raises(InputError, match=r"Images/children_room/a b\+0001\.jpg: it "):
        prepare("mit67", {}, root, 32, "fail", tmp_path / "cache", workers=1)


def test_the_same_pixels_under_two_labels_are_named(tmp_path, root):
    first, second = root / "Images/inside bus/a b+0000.JPG", root / "Images/children_room/T_0000.JPG"
    second.write_bytes(first.read_bytes())
    cache = prepare("mit67", {}, root, 32, "fail", tmp_path / "cache", workers=1)
    assert kinds(cache) == [("same_pixels", "children_room/T_0000.JPG")]
