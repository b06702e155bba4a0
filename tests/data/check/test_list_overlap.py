"""Whether two lists name the same images."""

import pytest

from dctkd.data.check.list_overlap import compare_lists, read_image_list


def test_lists_may_hold_labels_blanks_and_backslashes(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf/a/bar + grill/1 2.jpg 7\r\na\\b\\3.jpg\t4\r\n\r\n")
    found = read_image_list(tmp_path / "a.txt")
    assert found.names == ("a/bar + grill/1 2.jpg", "a/b/3.jpg")
    assert found.labels == (7, 4)


def test_shared_images_with_two_labels_are_counted(tmp_path):
    (tmp_path / "a.txt").write_text("x/1.jpg 0\nx/2.jpg 1\n")
    (tmp_path / "b.txt").write_text("x/1.jpg 0\nx/2.jpg 5\nx/3.jpg 1\n")
    found = compare_lists(read_image_list(tmp_path / "a.txt"), read_image_list(tmp_path / "b.txt"))
    assert (found["overlap_by"], found["num_other_label"], found["is_same_set"]) == ("path", 1, False)
    assert found["by"]["path"]["percent_of_test"] == pytest.approx(200 / 3)
