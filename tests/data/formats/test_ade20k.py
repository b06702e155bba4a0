"""ADE20K: what the manifest says of a complete copy, and of what real copies do to it."""

import pytest

from dctkd.data.formats.ade20k import Options, read_manifest
from dctkd.data.manifest import Entry, check_problems
from dctkd.data.prepare import prepare
from dctkd.errors import InputError
from tests.data.trees import USABLE, make_ade20k, rewrite_list, save_photograph, spoil

SCENES = "sceneCategories.txt"
UNTRAINED = ("untrained_class", "class waterfall block")
UNTESTED = [("untested_class", f"class {name}") for name in ("bathroom", "poolroom/home")]


@pytest.fixture
def root(tmp_path):
    """The data root; the photographs lie in the folder of the archive."""
    return make_ade20k(tmp_path / "data")


@pytest.fixture
def home(root):
    return root / "ADEChallengeData2016"


def read(root):
    return read_manifest(root, Options())


def kinds(manifest):
    return [(problem.kind, problem.where) for problem in manifest.problems]


def test_entries_follow_the_official_list(root, home):
    manifest = read(root)
    assert [f"{entry.id} {manifest.classes[entry.label]}" for entry in manifest.entries] == (
        home / SCENES
    ).read_text().splitlines()
    assert [entry.split for entry in manifest.entries] == ["train"] * 8 + ["test"] * 6
    assert manifest.root == home


def test_labels_follow_the_sorted_scenes_of_both_splits(root):
    manifest = read(root)
    assert manifest.classes == ("airport_terminal", "bathroom", "misc", "poolroom/home", "waterfall block")
    name = "ADE_val_00000002"
    assert Entry(name, f"images/validation/{name}.jpg", 2, "test") in manifest.entries


def test_training_comes_first_whatever_the_order_of_the_list(root, home):
    expected = read(root)
    rewrite_list(home / SCENES, lambda lines: lines[8:] + lines[:8])
    assert read(root).entries == expected.entries


def test_a_scene_that_the_list_never_trains_does_not_block(root):
    manifest = read(root)
    assert kinds(manifest) == [UNTRAINED, *UNTESTED]
    check_problems(manifest, "fail")


def test_the_official_state_is_packed_with_on_problem_fail(tmp_path, root):
    cache = prepare("ade20k", {}, root, 32, "fail", tmp_path / "cache", workers=1)
    assert len(cache.classes) == 5
    assert (cache.num_images("train"), cache.num_images("test")) == (8, 6)
    assert UNTRAINED in kinds(cache)


def test_a_scene_whose_only_training_images_are_gone_blocks(root, home):
    for number in (5, 6):
        (home / f"images/training/ADE_train_{number:08d}.jpg").unlink()
    manifest = read(root)
    assert ("empty_class", "class bathroom") in kinds(manifest)
    with pytest.raises(InputError, match=r"1 empty_class, 2 missing: sceneCategories\.txt:5: "):
        check_problems(manifest, "fail")


@pytest.mark.parametrize("name", ["training", "validation"])
def test_a_missing_file_is_left_out_and_listed(root, home, name):
    short, line = ("train", 2) if name == "training" else ("val", 10)
    (home / f"images/{name}/ADE_{short}_00000002.jpg").unlink()
    manifest = read(root)
    assert kinds(manifest)[0] == ("missing", f"{SCENES}:{line}")
    assert manifest.problems[0].message == f"images/{name}/ADE_{short}_00000002.jpg does not exist"
    assert len(manifest.entries) == 13


def test_unlisted_files_are_named_one_by_one(root, home):
    save_photograph(home / "images/validation/ADE_val_00002001.jpg", 90)
    save_photograph(home / "images/training/copy of 1.jpg", 91)
    assert kinds(read(root))[:2] == [
        ("unlisted", "images/training/copy of 1.jpg"),
        ("unlisted", "images/validation/ADE_val_00002001.jpg"),
    ]


def test_the_first_of_two_scenes_of_an_image_counts(root, home):
    rewrite_list(home / SCENES, lambda lines: [*lines, "ADE_train_00000001 misc"])
    manifest = read(root)
    assert kinds(manifest)[0] == ("duplicate", f"{SCENES}:15")
    assert manifest.classes[manifest.entries[0].label] == "airport_terminal"


@pytest.mark.parametrize("extension", ["JPG", "jpeg", "PNG"])
def test_files_may_end_otherwise(root, home, extension):
    path = home / "images/training/ADE_train_00000001.jpg"
    path.rename(path.with_suffix(f".{extension}"))
    manifest = read(root)
    name = "ADE_train_00000001"
    assert manifest.entries[0] == Entry(name, f"images/training/{name}.{extension}", 0, "train")
    assert kinds(manifest) == [UNTRAINED, *UNTESTED]


def test_of_several_files_of_one_name_the_official_one_counts(root, home):
    save_photograph(home / "images/training/ADE_train_00000001.JPG", 90)
    (home / "images/training/ADE_train_00000001.txt").write_text("x")
    manifest = read(root)
    assert manifest.entries[0].path == "images/training/ADE_train_00000001.jpg"
    assert [where for kind, where in kinds(manifest) if kind == "unlisted"] == [
        f"images/training/ADE_train_00000001.{extension}" for extension in ("JPG", "txt")
    ]


def test_the_root_may_be_the_folder_of_the_archive(root, home):
    assert read(home).entries == read(root).entries


@pytest.mark.parametrize("folder", ["data", "data/lists", "data/ADEChallengeData2016/lists"])
def test_the_list_may_lie_elsewhere(tmp_path, root, home, folder):
    expected = read(root).entries
    (tmp_path / folder).mkdir(exist_ok=True)
    (home / SCENES).rename(tmp_path / folder / SCENES)
    assert read(root).entries == expected


@pytest.mark.parametrize("line_end", ["\r\n", "\n\n", "  \t\r\n\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_windows_line_ends_blank_lines_and_a_byte_order_mark_change_nothing(root, home, line_end, start):
    expected = read(root)
    rewrite_list(home / SCENES, line_end=line_end, start=start)
    assert (read(root).entries, read(root).classes) == (expected.entries, expected.classes)


@pytest.mark.parametrize("blank", ["\t", "   "])
def test_any_blanks_part_name_and_scene(root, home, blank):
    expected = read(root).entries
    rewrite_list(home / SCENES, lambda lines: [line.replace(" ", blank, 1) for line in lines])
    assert read(root).entries == expected


@pytest.mark.parametrize(
    "line",
    [
        "ADE_train_00000001",
        "ADE_train_1 misc",
        "ADE_test_00000001 misc",
        "ADE_train_00000001.jpg misc",
        "/etc/passwd misc",
        "ADE_val_../../../x misc",
        "../ADE_val_00000001 misc",
        "ADE_val_\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661 misc",
        "00000001 misc",
    ],
)
def test_a_line_of_another_form_is_an_error(root, home, line):
    rewrite_list(home / SCENES, lambda lines: [line, *lines])
    with pytest.raises(InputError) as caught:
        read(root)
    assert str(caught.value).startswith(
        f"{home / SCENES}:1: expected a line 'ADE_<train or val>_<8 digits> <scene>', got "
    )
    assert "\n" not in str(caught.value)


def test_a_missing_list_is_one_line_that_says_what_is_expected(root, home):
    (home / SCENES).unlink()
    with pytest.raises(InputError) as caught:
        read(root)
    assert str(caught.value) == (
        f"data root {root}: expected there, or one level deeper: the list {SCENES} "
        "(lines ADE_<train or val>_<8 digits> <scene>); found neither"
    )


@pytest.mark.parametrize("folder", ["training", "validation"])
def test_a_missing_folder_of_images_is_an_error(root, home, folder):
    (home / "images" / folder).rename(home / "away")
    with pytest.raises(InputError, match="deeper: the folders images/training and images/validation; found neither"):
        read(root)


def test_a_missing_root_says_what_belongs_there(tmp_path):
    with pytest.raises(InputError, match=r"does not exist; .*ADEChallengeData2016 .*sceneCategories\.txt"):
        read(tmp_path / "nowhere")


def test_odd_photographs_are_packed(tmp_path, root, home):
    for number, how in enumerate(USABLE, start=1):
        spoil(home / f"images/training/ADE_train_{number:08d}.jpg", how)
    cache = prepare("ade20k", {}, root, 32, "fail", tmp_path / "cache", workers=1)
    found = [problem.kind for problem in cache.problems]
    assert (found.count("misnamed"), found.count("sixteen_bit")) == (5, 1)


def test_a_packed_copy_tells_of_an_untrained_class_once(tmp_path):
    root = make_ade20k(tmp_path / "copy")
    cache = prepare("ade20k", {}, root, 32, "fail", tmp_path / "cache", workers=1)
    kinds = [problem.kind for problem in cache.problems]
    assert kinds.count("untrained_class") == 1
    assert "empty_class" not in kinds
