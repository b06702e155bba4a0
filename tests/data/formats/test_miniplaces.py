import pytest

from dctkd.data.formats.miniplaces import Options, read_manifest
from dctkd.data.manifest import Entry
from dctkd.errors import InputError


@pytest.fixture
def root(tmp_path, make_miniplaces):
    return make_miniplaces(tmp_path / "data")


def kinds(manifest):
    return [(problem.kind, problem.where) for problem in manifest.problems]


def test_entries_follow_the_official_lists(root):
    manifest = read_manifest(root, Options())
    assert manifest.problems == ()
    assert manifest.classes == ("abbey", "athletic_field/outdoor", "bar + grill")
    assert [f"{entry.id} {entry.label}" for entry in manifest.split("train")] == (
        root / "train.txt"
    ).read_text().splitlines()
    assert [f"{entry.id} {entry.label}" for entry in manifest.split("test")] == (
        root / "val.txt"
    ).read_text().splitlines()
    name = "train/b/bar + grill/00000002.jpg"
    assert Entry(name, f"images/{name}", 2, "train") in manifest.entries


def test_one_level_deeper_gives_the_same_entries(tmp_path, root):
    flat = read_manifest(root, Options())
    nested = read_manifest(tmp_path, Options())
    assert (nested.entries, nested.classes, nested.problems) == (flat.entries, flat.classes, flat.problems)


def test_lists_may_lie_in_the_development_kit(root):
    expected = read_manifest(root, Options()).entries
    kit = root / "development_kit" / "data"
    kit.mkdir(parents=True)
    for name in ("train.txt", "val.txt", "categories.txt"):
        (root / name).rename(kit / name)
    assert read_manifest(root, Options()).entries == expected


def test_lists_may_lie_in_a_folder_beside_that_of_the_images(tmp_path, root):
    expected = read_manifest(root, Options()).entries
    for name in ("train.txt", "val.txt", "categories.txt"):
        (root / name).rename(tmp_path / name)
    assert read_manifest(tmp_path, Options()).entries == expected


@pytest.mark.parametrize("ending", ["\r\n", "\n\n", "  \t\r\n\r\n"])
def test_windows_line_ends_and_blank_lines_change_nothing(root, edit_list, ending):
    expected = read_manifest(root, Options()).entries
    for name in ("train.txt", "val.txt", "categories.txt"):
        edit_list(root / name, lambda lines: lines, line_end=ending)
    assert read_manifest(root, Options()).entries == expected


def test_a_byte_order_mark_changes_nothing(root):
    expected = read_manifest(root, Options()).entries
    (root / "train.txt").write_bytes(b"\xef\xbb\xbf" + (root / "train.txt").read_bytes())
    assert read_manifest(root, Options()).entries == expected


def test_upper_case_extensions_are_taken_as_listed(root, edit_list, save_photograph):
    save_photograph(root / "images/train/a/abbey/HOLIDAY.JPG", 90)
    edit_list(root / "train.txt", lambda lines: [*lines, "train/a/abbey/HOLIDAY.JPG 0"])
    manifest = read_manifest(root, Options())
    assert manifest.split("train")[-1].id == "train/a/abbey/HOLIDAY.JPG"
    assert manifest.problems == ()


def test_num_classes_keeps_the_first_ones_and_hides_the_rest(root):
    manifest = read_manifest(root, Options(num_classes=2))
    assert manifest.classes == ("abbey", "athletic_field/outdoor")
    assert {entry.label for entry in manifest.entries} == {0, 1}
    assert manifest.problems == ()


def test_more_classes_than_there_are_is_an_error(root):
    with pytest.raises(InputError, match=r"categories\.txt: options\.num_classes is 4, but it has 3"):
        read_manifest(root, Options(num_classes=4))


def test_a_missing_file_is_left_out_and_listed(root):
    (root / "images/train/a/abbey/00000002.jpg").unlink()
    manifest = read_manifest(root, Options())
    assert kinds(manifest) == [("missing", "train.txt:2")]
    assert "train/a/abbey/00000002.jpg" not in [entry.id for entry in manifest.entries]
    assert len(manifest.entries) == 17


def test_an_unlisted_file_is_listed_for_information(root, save_photograph):
    save_photograph(root / "images/val/99.jpg", 3)
    (root / "images/val/.DS_Store").write_bytes(b"x")
    manifest = read_manifest(root, Options())
    assert kinds(manifest) == [("unlisted", "images/val/99.jpg")]
    assert len(manifest.entries) == 18


def test_the_first_of_two_listings_counts(root, edit_list):
    edit_list(root / "train.txt", lambda lines: [*lines, "./train/a//abbey/00000001.jpg 2"])
    manifest = read_manifest(root, Options())
    assert kinds(manifest) == [("duplicate", "train.txt:13")]
    assert "as class 2; before as class 0" in manifest.problems[0].message
    assert len(manifest.entries) == 18


def test_a_label_out_of_range_is_left_out_and_listed(root, edit_list):
    edit_list(root / "val.txt", lambda lines: [line.replace(" 2", " 3") for line in lines])
    manifest = read_manifest(root, Options())
    assert kinds(manifest)[:2] == [("label_range", "val.txt:3"), ("label_range", "val.txt:6")]
    assert "expected 0 to 2" in manifest.problems[0].message


def test_a_class_without_training_images_is_listed(root, edit_list):
    edit_list(root / "train.txt", lambda lines: lines[:8])
    assert ("empty_class", "class bar + grill") in kinds(read_manifest(root, Options()))


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/passwd.jpg", "train/../../../secret.jpg", "train/\0.jpg"])
def test_a_path_that_leaves_the_root_is_an_error(root, edit_list, path):
    edit_list(root / "train.txt", lambda lines: [*lines, f"{path} 0"])
    with pytest.raises(InputError, match=r"train\.txt:13: path .* may leave the dataset's folder"):
        read_manifest(root, Options())


@pytest.mark.parametrize("line", ["train/a/abbey/00000001.jpg", "train/a/abbey/00000001.jpg zero", "7"])
def test_a_malformed_line_is_an_error(root, edit_list, line):
    edit_list(root / "train.txt", lambda lines: [line, *lines[1:]])
    with pytest.raises(InputError, match=r"train\.txt:1: "):
        read_manifest(root, Options())


@pytest.mark.parametrize(
    "lines", [["/a/abbey 0", "/b/bar 2"], ["/a/abbey 0", "/b/bar 0"], ["/a/abbey 0", "/a/abbey 1"], []]
)
def test_categories_must_be_numbered_without_gap_or_repetition(root, edit_list, lines):
    edit_list(root / "categories.txt", lambda _: lines)
    with pytest.raises(InputError, match=r"categories\.txt: "):
        read_manifest(root, Options())


def test_a_missing_root_says_what_belongs_there(tmp_path):
    with pytest.raises(InputError, match=r"^data root .*nowhere does not exist; expected there, .*train\.txt"):
        read_manifest(tmp_path / "nowhere", Options())


def test_a_file_as_root_is_an_error(root):
    with pytest.raises(InputError, match="is not a folder"):
        read_manifest(root / "train.txt", Options())


def test_a_root_without_images_is_an_error(tmp_path):
    with pytest.raises(InputError, match="expected there, or one level deeper: the folder images"):
        read_manifest(tmp_path, Options())


def test_two_copies_below_the_root_are_ambiguous(tmp_path, root, make_miniplaces):
    make_miniplaces(tmp_path / "copy")
    with pytest.raises(InputError, match="copy, data each hold the folder images; give one of them"):
        read_manifest(tmp_path, Options())


@pytest.mark.parametrize("name", ["train.txt", "val.txt", "categories.txt"])
def test_a_missing_list_is_an_error(root, name):
    (root / name).unlink()
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        read_manifest(root, Options())


def test_a_list_that_is_no_text_is_an_error(root):
    (root / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"val\.txt: cannot be read as UTF-8"):
        read_manifest(root, Options())
