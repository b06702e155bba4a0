"""What a check finds in a copy of a dataset."""

import json
import os
import shutil

import pytest
from PIL import Image

from dctkd.data import check as module
from dctkd.data.check import Request, ceilings, check
from dctkd.data.check.official_counts import OfficialCounts
from dctkd.data.manifest import Entry
from dctkd.errors import InputError
from tests.data.trees import UNUSABLE, USABLE, make_ade20k, make_mit67, make_sun397, spoil

TRAIN = "images/train/a/abbey"
# What the fixture writes: three classes with four training and two test images each.
PUBLISHED = OfficialCounts(3, 12, 6, 3, 3, (4, 4), (2, 2), False, "the fixture")


@pytest.fixture
def root(tmp_path, make_miniplaces):
    return make_miniplaces(tmp_path / "data")


@pytest.fixture
def published(monkeypatch):
    monkeypatch.setattr(module, "official_counts", lambda *_: PUBLISHED)


def check_miniplaces(root, **more):
    return check(Request("miniplaces", root, **more))


def remarks(result):
    return {row["kind"]: row["count"] for row in result["verdict"]["remarks"]}


def blocking(result):
    return {row["kind"]: row["count"] for row in result["verdict"]["blocking"]}


def without_timing(result):
    return {key: value for key, value in result.items() if key != "timing"}


def test_a_whole_copy_is_as_published(root, published):
    verdict = check_miniplaces(root)["verdict"]
    assert (verdict["status"], verdict["exit_status"], verdict["remarks"]) == ("as_published", 0, [])


def test_a_part_of_the_published_dataset_is_usable_with_a_remark(root):
    result = check_miniplaces(root)
    assert result["verdict"]["status"] == "usable"
    assert remarks(result) == {"counts_differ": 7}  # 3, 12, 6, 3, 3, 4, 2 where 100, 100,000, ... were published


def test_a_dataset_that_was_never_published_is_usable(tmp_path, save_photograph):
    for number, name in enumerate(("train/a/0", "train/b/1", "test/a/2", "test/b/3")):
        save_photograph(tmp_path / f"{name}.png", number)
    verdict = check(Request("imagefolder", tmp_path))["verdict"]
    assert (verdict["status"], verdict["remarks"], verdict["has_published_counts"]) == ("usable", [], None)


def test_class_names_may_hold_slashes_and_blanks(root):
    assert check_miniplaces(root)["classes"][1:] == [
        {"name": "athletic_field/outdoor", "num_train_images": 4, "num_test_images": 2},
        {"name": "bar + grill", "num_train_images": 4, "num_test_images": 2},
    ]


@pytest.mark.parametrize("ending", ["\r\n", "\n\n", "  \r\n"])
def test_windows_line_ends_and_trailing_blank_lines_change_nothing(root, edit_list, published, ending):
    before = without_timing(check_miniplaces(root))
    for name in ("train.txt", "val.txt", "categories.txt"):
        edit_list(root / name, lambda lines: lines, line_end=ending)
    assert without_timing(check_miniplaces(root)) == before


def test_a_tree_one_level_deeper_is_found_and_said_so(tmp_path, root, published):
    result = check_miniplaces(tmp_path)
    assert result["verdict"]["status"] == "as_published"
    assert result["dataset"]["images_below_root"] == "data"


def test_names_with_upper_case_extensions_are_no_finding(root, edit_list, published):
    (root / TRAIN / "00000001.jpg").rename(root / TRAIN / "00000001.JPG")
    edit_list(root / "train.txt", lambda lines: [lines[0].replace(".jpg", ".JPG"), *lines[1:]])
    assert remarks(check_miniplaces(root)) == {}


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF"])
def test_misnamed_files_are_remarks(root, save_photograph, published, format):
    save_photograph(root / TRAIN / "00000002.jpg", 50, format=format)
    result = check_miniplaces(root)
    assert remarks(result)["misnamed"] == 1
    assert result["files"]["findings"]["misnamed"] == [
        {"path": f"{TRAIN}/00000002.jpg", "message": f"it is a {format} image"}
    ]
    assert result["verdict"]["exit_status"] == 0


@pytest.mark.parametrize(("mode", "kind"), [("L", "grey"), ("CMYK", "cmyk")])
def test_odd_modes_are_remarks(root, save_photograph, published, mode, kind):
    save_photograph(root / TRAIN / "00000002.jpg", 50, mode=mode)
    result = check_miniplaces(root)
    assert remarks(result) == {kind: 1}
    assert result["files"]["modes"] == {"RGB": 17, mode: 1}


@pytest.mark.parametrize(("mode", "kind"), [("P", "palette"), ("I;16", "sixteen_bit"), ("RGBA", "alpha")])
def test_odd_modes_of_misnamed_files_are_remarks_too(root, published, mode, kind):
    Image.new(mode, (60, 60)).save(root / TRAIN / "00000002.jpg", "PNG")
    assert remarks(check_miniplaces(root)) == {"misnamed": 1, kind: 1}


def test_rotated_files_are_remarks(root, published):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 50)).save(root / TRAIN / "00000002.jpg", exif=exif)
    assert remarks(check_miniplaces(root)) == {"rotated": 1}


@pytest.mark.parametrize("kept_bytes", [600, 0])
def test_truncated_and_empty_files_make_a_copy_unusable(root, kept_bytes):
    path = root / TRAIN / "00000002.jpg"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    result = check_miniplaces(root)
    assert blocking(result) == {"unreadable": 1}
    assert (result["verdict"]["status"], result["verdict"]["exit_status"]) == ("not_usable", 2)
    assert result["counts"]["found"]["num_train_images"] == 11


def test_a_missing_file_makes_a_copy_unusable(root):
    (root / TRAIN / "00000002.jpg").unlink()
    result = check_miniplaces(root)
    assert blocking(result) == {"missing": 1}
    assert result["problems"]["missing"][0]["where"] == "train.txt:2"


def test_a_file_that_is_listed_twice_makes_a_copy_unusable(root, edit_list):
    edit_list(root / "val.txt", lambda lines: [*lines, lines[0]])
    assert blocking(check_miniplaces(root)) == {"duplicate": 1}


def test_a_label_that_does_not_exist_makes_a_copy_unusable(root, edit_list):
    edit_list(root / "val.txt", lambda lines: [*lines[:-1], lines[-1].replace(" 2", " 7")])
    assert blocking(check_miniplaces(root)) == {"label_range": 1}


def test_unlisted_files_are_counted(root, save_photograph, published):
    for number in (90, 91):
        save_photograph(root / f"images/val/{number}.jpg", number)
    assert remarks(check_miniplaces(root)) == {"unlisted": 2}


def test_unlisted_files_of_the_published_archive_are_no_remark(root, save_photograph, monkeypatch):
    save_photograph(root / "images/val/90.jpg", 90)
    with_more = OfficialCounts(3, 12, 6, 3, 3, (4, 4), (2, 2), True, "the fixture")
    monkeypatch.setattr(module, "official_counts", lambda *_: with_more)
    assert check_miniplaces(root)["verdict"]["status"] == "as_published"


@pytest.mark.parametrize(
    ("copy", "scope", "is_conflict"),
    [
        ("images/train/a/abbey/00000002.jpg", "train", False),
        ("images/train/b/bar + grill/00000002.jpg", "train", True),
        ("images/val/00000001.jpg", "across", False),  # of class 0, as abbey is
        ("images/val/00000002.jpg", "across", True),
    ],
)
def test_equal_pixels_are_found_wherever_they_are(root, published, copy, scope, is_conflict):
    shutil.copy(root / TRAIN / "00000001.jpg", root / copy)
    result = check_miniplaces(root)
    groups = result["duplicates"]["groups"]
    assert [(group["scope"], group["labels_conflict"]) for group in groups] == [(scope, is_conflict)]
    assert [image["path"] for image in groups[0]["images"]] == [f"{TRAIN}/00000001.jpg", copy]
    assert remarks(result) == {f"same_pixels_{scope}": 1, **({"conflicting_labels": 1} if is_conflict else {})}


def test_equal_test_images_are_found(root, published):
    shutil.copy(root / "images/val/00000001.jpg", root / "images/val/00000002.jpg")
    assert check_miniplaces(root)["duplicates"]["by_scope"]["test"] == {
        "num_groups": 1,
        "num_images": 2,
        "num_conflicting_groups": 1,
    }


def test_test_images_that_are_trained_on_are_counted_by_whether_the_class_agrees(root):
    for name in ("00000001", "00000002", "00000004"):  # of the classes 0, 1 and 0
        shutil.copy(root / TRAIN / "00000001.jpg", root / f"images/val/{name}.jpg")
    duplicates = check_miniplaces(root)["duplicates"]
    assert duplicates["num_test_images_trained_on"] == 3
    assert duplicates["num_test_images_trained_on_under_other_classes_only"] == 1


def test_duplicates_are_found_by_pixels_not_by_bytes(root):
    with Image.open(root / TRAIN / "00000001.jpg") as image:
        image.save(root / "images/val/00000001.jpg", "PNG")
    assert check_miniplaces(root)["duplicates"]["by_scope"]["across"]["num_groups"] == 1


def test_a_class_without_training_images_lowers_the_ceilings(root, edit_list):
    edit_list(root / "train.txt", lambda lines: lines[:8])
    result = check_miniplaces(root)
    assert blocking(result) == {"empty_class": 1}
    assert result["ceilings"]["top1_percent"] == pytest.approx(200 / 3)  # 4 of 6 test images
    assert result["ceilings"]["mca_present_percent"] == pytest.approx(200 / 3)  # 2 of 3 classes


def test_a_class_without_test_images_lowers_the_mean_over_all_classes_only(root, edit_list):
    edit_list(root / "val.txt", lambda lines: [line for line in lines if not line.endswith(" 2")])
    result = check_miniplaces(root)
    assert remarks(result)["untested_classes"] == 1
    assert result["ceilings"]["mca_all_percent"] == pytest.approx(200 / 3)
    assert result["ceilings"]["mca_present_percent"] == 100
    assert result["ceilings"]["top1_percent"] == 100


def test_a_scene_that_ade20k_never_trains_is_a_remark_that_lowers_the_ceilings(tmp_path):
    result = check(Request("ade20k", make_ade20k(tmp_path)))
    # Five scenes: four are trained; validation shows two of them in five images, and the fifth in one.
    assert result["verdict"]["exit_status"] == 0
    assert (remarks(result)["untrained_classes"], remarks(result)["untested_classes"]) == (1, 2)
    assert result["ceilings"]["top1_percent"] == pytest.approx(500 / 6)
    assert result["ceilings"]["mca_all_percent_if_all_were_trained"] == pytest.approx(60)
    assert result["ceilings"]["mca_all_percent"] == pytest.approx(40)
    assert result["ceilings"]["mca_present_percent"] == pytest.approx(200 / 3)


@pytest.mark.parametrize("how", sorted(USABLE))
@pytest.mark.parametrize(
    ("name", "make", "path"),
    [
        ("mit67", make_mit67, "Images/bar + grill/a b+0000.JPG"),
        ("sun397", make_sun397, "SUN397/a/athletic_field/outdoor/sun_a0000.jpg"),
        ("ade20k", make_ade20k, "ADEChallengeData2016/images/training/ADE_train_00000001.jpg"),
    ],
)
def test_odd_files_of_every_format_are_remarks(tmp_path, name, make, path, how):
    spoil(make(tmp_path) / path, how)
    result = check(Request(name, tmp_path))
    is_jpeg = how in ("grey", "cmyk", "rotated")
    kind = {"gif": "palette", "png": None, "bmp": None}.get(how, how)
    expected = {**({kind: 1} if kind else {}), **({} if is_jpeg else {"misnamed": 1})}
    assert {kind: count for kind, count in remarks(result).items() if result["files"]["findings"].get(kind)} == expected
    assert result["verdict"]["exit_status"] == 0


@pytest.mark.parametrize("how", sorted(UNUSABLE))
@pytest.mark.parametrize(
    ("name", "make", "path"),
    [
        ("mit67", make_mit67, "Images/bar + grill/a b+0000.JPG"),
        ("sun397", make_sun397, "SUN397/a/athletic_field/outdoor/sun_a0000.jpg"),
        ("ade20k", make_ade20k, "ADEChallengeData2016/images/training/ADE_train_00000001.jpg"),
    ],
)
def test_damaged_files_of_every_format_make_a_copy_unusable(tmp_path, name, make, path, how):
    spoil(make(tmp_path) / path, how)
    result = check(Request(name, tmp_path))
    assert blocking(result) == {"unreadable": 1}
    assert result["files"]["num_usable"] == result["files"]["num_read"] - 1


@pytest.mark.parametrize(("name", "make"), [("mit67", make_mit67), ("sun397", make_sun397)])
def test_images_that_no_published_list_names_are_no_remark(tmp_path, name, make):
    result = check(Request(name, make(tmp_path)))
    assert len(result["problems"]["unlisted"]) == 1  # one sentence for all of them
    assert "unlisted" not in remarks(result)


def test_named_lists_are_looked_up_in_the_dataset(tmp_path):
    root = make_mit67(tmp_path / "data", classes=("bar",))  # a b+0000.JPG and a b+0001.jpg train, T_0000.JPG tests
    (tmp_path / "l1.txt").write_text("train/bar/a b+0000.JPG\ntrain/bar/T_0000.JPG\ntrain/bar/new.jpg\n")
    (tmp_path / "l2.txt").write_text("val/bar/a b+0001.jpg\n")
    named = check(Request("mit67", root, lists=(tmp_path / "l1.txt", tmp_path / "l2.txt")))["lists"]["named"]
    assert named["train_list_in_dataset"] == {"train": 1, "test": 1, "neither": 1}
    assert named["test_list_in_dataset"] == {"train": 1, "test": 0, "neither": 0}
    assert named["overlap_by"] is None


def test_the_ceilings_of_ade20k_follow_from_its_counts():
    # 1,055 classes: 1,040 trained, 672 tested, 15 tested but never trained, with one test image each. 672 - 15 = 657.
    tested = [*range(383, 1055)]
    labels = [*tested, *([400] * (2000 - len(tested)))]
    entries = [Entry(f"t{label}", "", label, "train") for label in range(1040)]
    entries += [Entry(f"v{number}", "", label, "test") for number, label in enumerate(labels)]
    found = ceilings(entries, 1055)
    assert found["num_test_images_of_untrained_classes"] == 15
    assert found["top1_percent"] == pytest.approx(99.25)
    assert round(found["mca_all_percent_if_all_were_trained"], 1) == 63.7
    assert round(found["mca_all_percent"], 1) == 62.3
    assert round(found["mca_present_percent"], 1) == 97.8


def test_no_test_image_left_makes_a_copy_unusable(root):
    for path in (root / "images/val").iterdir():
        path.write_bytes(b"")
    result = check_miniplaces(root)
    assert blocking(result) == {"no_test_images": 1, "unreadable": 6}
    assert result["ceilings"]["top1_percent"] is None


def test_lists_that_name_the_same_images_are_told(root, tmp_path, published):
    # As in released lists of SUN397: only the folder and the order differ.
    names = ["abbey/sun_a.jpg", "abbey/sun_b.jpg", "alley/sun_c.jpg"]
    (tmp_path / "l1.txt").write_text("".join(f"train/{name}\n" for name in names))
    (tmp_path / "l2.txt").write_text("".join(f"val/{name}\n" for name in reversed(names)))
    result = check_miniplaces(root, lists=(tmp_path / "l1.txt", tmp_path / "l2.txt"))
    named = result["lists"]["named"]
    assert remarks(result) == {"named_lists_overlap": 3}
    assert (named["overlap_by"], named["is_same_set"], named["is_same_order"]) == (
        "path below the first folder",
        True,
        False,
    )
    assert named["by"]["path"]["num_shared"] == 0


def test_an_empty_list_is_an_error(tmp_path, root):
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match=r"empty\.txt: expected a list with one path per line"):
        check_miniplaces(root, lists=(tmp_path / "empty.txt", tmp_path / "empty.txt"))


def test_names_that_each_folder_starts_anew_are_no_overlap(root):
    official = check_miniplaces(root)["lists"]["official"]
    assert official["by"]["file name"]["num_shared"] == 4  # of 00000001 to 00000006
    assert not official["by"]["file name"]["is_unique"]
    assert official["overlap_by"] is None


@pytest.mark.parametrize(("is_same", "expected"), [(True, 1), (False, 0)])
def test_equal_official_names_count_as_overlap_only_with_equal_pixels(tmp_path, save_photograph, is_same, expected):
    for number, name in enumerate(("train/a/0", "train/b/1", "test/b/2")):
        save_photograph(tmp_path / f"{name}.png", number)
    save_photograph(tmp_path / "test/a/0.png", 0 if is_same else 7)
    result = check(Request("imagefolder", tmp_path))
    assert result["lists"]["official"]["by"]["path below the first folder"]["num_shared"] == 1
    assert result["lists"]["official"]["num_same_pixels"] == expected
    assert remarks(result).get("official_lists_overlap", 0) == expected


def test_the_report_does_not_depend_on_the_number_of_workers(tmp_path, make_miniplaces):
    root = make_miniplaces(tmp_path / "data", num_train=12, num_val=6)  # 54 images: more than one chunk
    request = Request("miniplaces", root)
    assert without_timing(check(request, workers=2)) == without_timing(check(request))


def test_a_second_check_reports_the_same(root):
    assert json.dumps(without_timing(check_miniplaces(root))) == json.dumps(without_timing(check_miniplaces(root)))


def test_progress_reaches_the_number_of_images(root):
    seen = []
    check(Request("miniplaces", root), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 18) for number in range(1, 19)]


def test_a_root_that_may_not_be_written_is_checked_and_left_as_it_is(root):
    before = sorted(str(path) for path in root.rglob("*"))
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        check_miniplaces(root)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert sorted(str(path) for path in root.rglob("*")) == before


def test_a_format_that_computes_its_images_has_nothing_to_check(tmp_path):
    with pytest.raises(InputError, match="synthscenes: its images are computed"):
        check(Request("synthscenes", tmp_path))


def test_file_names_that_are_no_utf8_reach_json(root):
    path = os.fsencode(root / "images/val") + b"/\xff\xfe.jpg"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    assert "\\udcff" in json.dumps(check_miniplaces(root)["problems"]["unlisted"])
