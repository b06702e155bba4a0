"""How the findings of a check are told."""

import json
import re
import shutil

import pytest
from PIL import Image
from typer.testing import CliRunner

from dctkd import cli
from dctkd.data import check as module
from dctkd.data.check import Request, check
from dctkd.data.check.official_counts import OfficialCounts
from dctkd.data.check.report import require_outside, to_json, to_markdown, write_report
from dctkd.errors import InputError

TRAIN = "images/train/a/abbey"


@pytest.fixture
def root(tmp_path, make_miniplaces):
    return make_miniplaces(tmp_path / "data")


def report_on(root, **more):
    return to_markdown(check(Request("miniplaces", root, **more)))


def verdict_of(markdown):
    return re.search(r"\*\*Verdict: (.*?)\.\*\*", markdown).group(1)


def test_a_whole_copy_is_called_as_published(root, monkeypatch):
    published = OfficialCounts(3, 12, 6, 3, 3, (4, 4), (2, 2), False, "the fixture")
    monkeypatch.setattr(module, "official_counts", lambda *_: published)
    markdown = report_on(root)
    assert verdict_of(markdown) == "as published"
    assert "**differs**" not in markdown
    assert "Every listed file that exists decodes to the last pixel" in markdown


def test_the_verdict_counts_the_remarks(root, save_photograph):
    save_photograph(root / TRAIN / "00000002.jpg", 50, mode="L")
    assert verdict_of(report_on(root)) == "usable, with 2 remarks"


def test_found_counts_stand_beside_the_published_ones(root):
    assert "| training images | 12 | 100,000 | **differs** |" in report_on(root)


def test_an_unusable_copy_says_why_and_what_is_left(root):
    (root / TRAIN / "00000001.jpg").unlink()
    path = root / TRAIN / "00000002.jpg"
    path.write_bytes(path.read_bytes()[:-500])
    markdown = report_on(root)
    assert verdict_of(markdown) == "not usable: 1 missing, 1 unreadable"
    assert "what is left: 10 training and 6 test images" in markdown
    assert f"- `train.txt:1`: {TRAIN}/00000001.jpg does not exist" in markdown
    assert re.search(rf"- `{TRAIN}/00000002.jpg`: it cannot be read: .*truncated", markdown)


def test_rotation_is_said_to_be_ignored_as_by_torchvision(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 50)).save(root / TRAIN / "00000002.jpg", exif=exif)
    markdown = report_on(root)
    assert "EXIF orientation is not applied, as torchvision's usual pipeline does not apply it either." in markdown
    assert f"- `{TRAIN}/00000002.jpg`: EXIF orientation 6" in markdown


def test_a_misnamed_file_is_named_with_its_format(root, save_photograph):
    save_photograph(root / TRAIN / "00000002.jpg", 50, format="BMP")
    assert f"- `{TRAIN}/00000002.jpg`: it is a BMP image" in report_on(root)


def test_equal_pixels_across_the_splits_are_named_with_their_classes(root):
    shutil.copy(root / "images/train/b/bar + grill/00000001.jpg", root / "images/val/00000002.jpg")
    markdown = report_on(root)
    assert (
        "- **several classes**: `images/train/b/bar + grill/00000001.jpg` (train, `bar + grill`), "
        "`images/val/00000002.jpg` (test, `athletic_field/outdoor`)" in markdown
    )
    assert "1 test image (16.7 %) has the pixels of a training image; 1 of other classes only." in markdown


def test_ceilings_are_given_with_what_they_follow_from(root, edit_list):
    edit_list(root / "val.txt", lambda lines: [line for line in lines if not line.endswith(" 2")])
    markdown = report_on(root)
    assert "| MCA over all classes, absent ones counting 0 | 66.7 % | 2 of 3 classes |" in markdown
    assert "Classes without a test image (1):\n\n- `bar + grill`" in markdown


def test_lists_with_the_same_images_are_said_to_measure_training_accuracy(root, tmp_path):
    (tmp_path / "train.txt").write_text("train/abbey/sun_a.jpg\ntrain/abbey/sun_b.jpg\n")
    (tmp_path / "val.txt").write_text("val/abbey/sun_b.jpg\nval/abbey/sun_a.jpg\n")
    markdown = report_on(root, lists=(tmp_path / "train.txt", tmp_path / "val.txt"))
    assert (
        "**Both lists name the same 2 images (100 %), in another order, compared by path below the first folder.** "
        "Accuracy on them is accuracy on training images." in markdown
    )


def test_lists_that_share_some_images_give_the_share(root, tmp_path):
    (tmp_path / "train.txt").write_text("abbey/sun_a.jpg\nabbey/sun_b.jpg\n")
    (tmp_path / "val.txt").write_text("abbey/sun_b.jpg\nabbey/sun_c.jpg\n")
    markdown = report_on(root, lists=(tmp_path / "train.txt", tmp_path / "val.txt"))
    assert "**1 image of the test list (50.0 %) is in the training list, compared by path.**" in markdown


def test_long_lists_are_cut_and_counted_and_json_holds_all(root, save_photograph):
    for number in range(23):
        save_photograph(root / f"images/val/new{number:02d}.jpg", number)
    result = check(Request("miniplaces", root))
    markdown = to_markdown(result)
    assert "`images/val/new19.jpg`" in markdown
    assert "`images/val/new20.jpg`" not in markdown
    assert "... and 3 more; the JSON file lists all." in markdown
    assert len(json.loads(to_json(result))["problems"]["unlisted"]) == 23


def test_the_markdown_names_no_folder_of_the_machine(root, tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg\n")
    (root / TRAIN / "00000001.jpg").unlink()
    (root / TRAIN / "00000002.jpg").write_bytes(b"")
    assert str(tmp_path) not in report_on(root, lists=(tmp_path / "list.txt", tmp_path / "list.txt"))


def test_names_cannot_break_table_terminal_or_page(root, save_photograph):
    save_photograph(root / "images/val/a|`b\x1b[31m<script>.jpg", 30)
    markdown = report_on(root)
    assert "`images/val/a\\|'b\\x1b[31m<script>.jpg`" in markdown  # in code, HTML is text
    assert "\x1b" not in markdown


def test_reports_of_the_same_tree_differ_in_the_last_line_only(root):
    result = check(Request("miniplaces", root))
    later = {**result, "timing": {"seconds": 99.0, "workers": 7}}
    assert to_markdown(result).splitlines()[:-1] == to_markdown(later).splitlines()[:-1]
    assert to_markdown(later).splitlines()[-1] == "Checked in 99.0 s with 7 workers."


def test_a_folder_inside_the_dataset_is_refused(root):
    with pytest.raises(InputError, match="lies inside the dataset"):
        require_outside(root, root / "images" / "checks")


def test_a_folder_that_cannot_be_made_is_an_error(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the report cannot be written"):
        write_report(check(Request("miniplaces", root)), tmp_path / "file")


def run_check(root, to, *more):
    return CliRunner().invoke(
        cli.app, ["data", "check", "miniplaces", "--root", str(root), "--to", str(to), *map(str, more)]
    )


def test_the_command_prints_the_markdown_and_writes_both_files(root, tmp_path):
    done = run_check(root, tmp_path / "out", "--option", "num_classes=2")
    assert done.exit_code == 0
    assert done.stdout == (tmp_path / "out/check-miniplaces.md").read_text()
    written = json.loads((tmp_path / "out/check-miniplaces.json").read_text())
    assert (written["schema"], written["dataset"]["options"]) == (1, {"num_classes": 2})


def test_the_command_exits_with_2_when_a_copy_is_not_usable(root, tmp_path):
    (root / TRAIN / "00000002.jpg").write_bytes(b"")
    assert run_check(root, tmp_path / "out").exit_code == 2
    assert (tmp_path / "out/check-miniplaces.md").is_file()


def test_the_command_compares_two_lists(root, tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg\n")
    done = run_check(root, tmp_path / "out", "--lists", tmp_path / "list.txt", tmp_path / "list.txt")
    assert "Both lists name the same 1 image" in done.stdout


def test_the_command_refuses_an_option_without_a_value(root, tmp_path):
    done = run_check(root, tmp_path / "out", "--option", "num_classes")
    assert isinstance(done.exception, InputError)
    assert str(done.exception) == "--option num_classes: expected KEY=VALUE"
