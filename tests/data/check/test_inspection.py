"""What is said of one file."""

import shutil

import pytest
from PIL import Image

from dctkd.data.check.inspection import inspect_file, inspect_files


def kinds(inspection):
    return [finding.kind for finding in inspection.findings]


def test_an_ordinary_photograph_has_no_finding(tmp_path, save_photograph):
    path = save_photograph(tmp_path / "a b+c.JPG", 0)
    found = inspect_file(tmp_path, path.name)
    assert (found.format, found.mode, found.height, found.width) == ("JPEG", "RGB", 53, 80)
    assert (found.num_bytes, found.findings, found.is_usable) == (path.stat().st_size, (), True)


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF"])
def test_a_file_named_as_another_format_is_misnamed(tmp_path, save_photograph, format):
    save_photograph(tmp_path / "a.jpg", 0, format=format)
    found = inspect_file(tmp_path, "a.jpg")
    assert kinds(found)[0] == "misnamed"
    assert found.findings[0].message == f"it is a {format} image"


@pytest.mark.parametrize(
    ("mode", "name", "expected"),
    [
        ("L", "a.jpg", ["grey"]),
        ("1", "a.png", ["grey"]),
        ("LA", "a.png", ["grey", "alpha"]),
        ("P", "a.png", ["palette"]),
        ("P", "a.gif", ["palette"]),
        ("CMYK", "a.jpg", ["cmyk"]),
        ("RGBA", "a.png", ["alpha"]),
        ("I;16", "a.png", ["sixteen_bit"]),
        ("F", "a.tif", ["sixteen_bit"]),
        ("LAB", "a.tif", ["other_mode"]),
    ],
)
def test_odd_colour_modes_are_named(tmp_path, mode, name, expected):
    Image.new(mode, (40, 40)).save(tmp_path / name)
    assert kinds(inspect_file(tmp_path, name)) == expected


def test_a_transparent_palette_colour_counts_as_alpha(tmp_path):
    Image.new("P", (40, 40)).save(tmp_path / "a.png", transparency=0)
    assert kinds(inspect_file(tmp_path, "a.png")) == ["palette", "alpha"]


@pytest.mark.parametrize(("orientation", "expected"), [(1, []), (3, ["rotated"]), (6, ["rotated"]), (0, []), (9, [])])
def test_exif_orientations_of_the_standard_other_than_upright_count_as_rotated(tmp_path, orientation, expected):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (50, 40)).save(tmp_path / "a.jpg", exif=exif)
    assert kinds(inspect_file(tmp_path, "a.jpg")) == expected


def test_a_rotated_photograph_keeps_its_stored_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 40)).save(tmp_path / "a.jpg", exif=exif)
    found = inspect_file(tmp_path, "a.jpg")
    assert (found.height, found.width) == (40, 50)


def test_a_truncated_file_is_unreadable_and_says_so(tmp_path, save_photograph):
    path = save_photograph(tmp_path / "a.jpg", 0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = inspect_file(tmp_path, "a.jpg")
    assert (kinds(found), found.is_usable, found.digest) == (["unreadable"], False, b"")
    assert "truncated" in found.findings[0].message


@pytest.mark.parametrize(("content", "expected"), [(b"", "zero_bytes"), (b"<html>404</html>", "unreadable")])
def test_an_empty_file_is_told_from_one_that_is_no_image(tmp_path, content, expected):
    (tmp_path / "a.jpg").write_bytes(content)
    assert kinds(inspect_file(tmp_path, "a.jpg")) == [expected]


def test_a_link_into_the_void_is_unreadable(tmp_path):
    (tmp_path / "a.jpg").symlink_to(tmp_path / "gone.jpg")
    assert kinds(inspect_file(tmp_path, "a.jpg")) == ["unreadable"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((32, 32), []), ((31, 40), ["small"]), ((160, 40), []), ((161, 40), ["elongated"]), ((40, 161), ["elongated"])],
)
def test_small_and_elongated_images_are_named(tmp_path, size, expected):
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert kinds(inspect_file(tmp_path, "a.png")) == expected


def test_an_animation_is_named(tmp_path):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert kinds(inspect_file(tmp_path, "a.webp")) == ["several_frames"]


def test_equal_pixels_have_equal_digests_whatever_the_file(tmp_path, save_photograph):
    save_photograph(tmp_path / "a.png", 0)
    save_photograph(tmp_path / "b.bmp", 0)
    save_photograph(tmp_path / "c.png", 6)  # of the same size
    first, second, other = (found.digest for found in inspect_files(["a.png", "b.bmp", "c.png"], tmp_path))
    assert first == second != other
    assert len(first) == 16


def test_equal_bytes_in_another_shape_have_another_digest(tmp_path):
    Image.new("RGB", (40, 50)).save(tmp_path / "a.png")
    Image.new("RGB", (50, 40)).save(tmp_path / "b.png")
    first, second = (found.digest for found in inspect_files(["a.png", "b.png"], tmp_path))
    assert first != second


def test_damaged_exif_keeps_no_image_from_being_used(tmp_path, save_photograph):
    path = save_photograph(tmp_path / "a.jpg", 0)
    with Image.open(path) as image:
        image.load()
        image.save(path, exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    assert inspect_file(tmp_path, "a.jpg").is_usable


def test_nothing_is_written_beside_the_photographs(tmp_path, save_photograph, leftovers):
    save_photograph(tmp_path / "a.png", 0)
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    inspect_files(["a.png", "b.png"], tmp_path)
    assert leftovers(tmp_path) == ["a.png", "b.png"]
