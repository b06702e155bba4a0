from hashlib import sha256

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional as tvf

from dctkd.data.decode import Decoded, decode_file, decode_files, digest_of_pixels, resized_size, size_of_file
from dctkd.data.manifest import Problem

# Modes as real copies hold them, each in a format that can store it.
KINDS = [
    ("RGB", "a.jpg", None),
    ("L", "a.jpg", None),
    ("CMYK", "a.jpg", None),
    ("P", "a.png", None),
    ("P", "a.gif", None),
    ("1", "a.png", None),
    ("LA", "a.png", None),
    ("RGBA", "a.png", None),
    ("RGB", "a.bmp", None),
    ("RGB", "a.webp", None),
    ("RGB", "upper.JPG", None),
    ("RGB", "really a png.jpg", "PNG"),
    ("RGB", "really+a+bmp.jpg", "BMP"),
]


def usual(path, short_side):
    """What torchvision's pipeline makes of a file before it crops."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    return np.asarray(image if short_side is None else tvf.resize(image, short_side))


@pytest.mark.parametrize("short_side", [None, 30, 47, 64, 90])
@pytest.mark.parametrize(("mode", "name", "format"), KINDS)
def test_pixels_equal_those_of_the_usual_pipeline(tmp_path, save_photograph, mode, name, format, short_side):
    for number in range(3):
        path = save_photograph(tmp_path / name, number, mode=mode, format=format)
        decoded = decode_file(tmp_path, name, short_side)
        assert isinstance(decoded, Decoded)
        np.testing.assert_array_equal(decoded.pixels_HWC, usual(path, short_side))


def test_a_palette_with_transparency_equals_the_usual_pipeline_without_a_warning(tmp_path):
    image = Image.effect_noise((40, 50), 80).quantize(16)
    image.save(tmp_path / "a.png", transparency=bytes(range(16)))
    decoded = decode_files(tmp_path, ["a.png"], 20)[0]
    with pytest.warns(UserWarning, match="Transparency"):
        expected = usual(tmp_path / "a.png", 20)
    np.testing.assert_array_equal(decoded.pixels_HWC, expected)


def test_the_first_picture_of_a_camera_s_multi_picture_file_is_read(tmp_path, save_photograph):
    first, second = (Image.open(save_photograph(tmp_path / f"{number}.png", number)) for number in range(2))
    with first, second:
        first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
    decoded = decode_file(tmp_path, "a.jpg", 30)
    assert decoded.remarks == ()
    np.testing.assert_array_equal(decoded.pixels_HWC, usual(tmp_path / "a.jpg", 30))


def test_exif_rotation_is_not_applied(tmp_path, save_photograph):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(save_photograph(tmp_path / "a.jpg", 0)) as image:
        image.save(tmp_path / "b.jpg", exif=exif)
    assert decode_file(tmp_path, "b.jpg", None).pixels_HWC.shape == (53, 80, 3)


def test_resized_size_equals_torchvision():
    for height in range(1, 40, 3):
        for width in range(1, 90, 7):
            for short_side in (1, 7, 24, 72):
                expected = tvf.resize(Image.new("RGB", (width, height)), short_side).size
                assert resized_size(height, width, short_side) == expected[::-1]


def test_a_strip_that_would_fill_the_memory_is_unreadable(tmp_path):
    Image.new("L", (20_000, 1)).save(tmp_path / "strip.png")
    assert decode_file(tmp_path, "strip.png", 64).message.startswith(
        "it cannot be decoded: ValueError: 1 x 20000 pixels"
    )


@pytest.mark.parametrize(
    ("name", "format", "kind"),
    [
        ("a.jpg", "PNG", "misnamed"),
        ("a.jpg", "BMP", "misnamed"),
        ("a.png", "JPEG", "misnamed"),
        ("a.jpeg", "JPEG", None),
    ],
)
def test_an_image_under_a_wrong_name_is_read_and_remarked_on(tmp_path, save_photograph, name, format, kind):
    save_photograph(tmp_path / name, 1, format=format)
    remarks = decode_file(tmp_path, name, 30).remarks
    assert [problem.kind for problem in remarks] == ([kind] if kind else [])
    assert all(problem == Problem("misnamed", name, f"it is a {format} image") for problem in remarks)


def test_sixteen_bits_are_clipped_as_usual_and_remarked_on(tmp_path):
    Image.fromarray(np.arange(0, 4096, 4, dtype=np.uint16).reshape(32, 32)).save(tmp_path / "a.png")
    decoded = decode_file(tmp_path, "a.png", None)
    np.testing.assert_array_equal(decoded.pixels_HWC, usual(tmp_path / "a.png", None))
    assert [problem.kind for problem in decoded.remarks] == ["sixteen_bit"]


def damaged(path, save_photograph, how):
    data = save_photograph(path, 2).read_bytes()
    path.write_bytes(
        {"truncated": data[: len(data) // 2], "empty": b"", "text": b"not an image", "header": data[:20]}[how]
    )


@pytest.mark.parametrize("how", ["truncated", "empty", "text", "header"])
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_damaged_file_is_unreadable_wherever_it_lies(tmp_path, save_photograph, name, how):
    problems = []
    for folder in ("here", "there"):
        damaged(tmp_path / folder / name, save_photograph, how)
        problems.append(decode_file(tmp_path / folder, name, 30))
    assert problems[0].kind == "unreadable"
    assert problems[0].where == name
    assert problems[0] == problems[1]


def test_a_file_that_vanished_is_unreadable(tmp_path):
    assert decode_file(tmp_path, "a.jpg", 30) == Problem(
        "unreadable", "a.jpg", "it cannot be read: No such file or directory"
    )


def test_formats_that_start_programs_are_refused(tmp_path, save_photograph):
    save_photograph(tmp_path / "a.jpg", 0, format="EPS")
    assert decode_file(tmp_path, "a.jpg", 30).kind == "unreadable"


def test_memory_errors_are_not_blamed_on_the_file(tmp_path, save_photograph, monkeypatch):
    save_photograph(tmp_path / "a.jpg", 0)

    def resize(*_):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", resize)
    with pytest.raises(MemoryError):
        decode_file(tmp_path, "a.jpg", 30)


def test_the_header_tells_the_cached_size(tmp_path, save_photograph):
    save_photograph(tmp_path / "a.jpg", 0)  # 53 x 80
    assert size_of_file(tmp_path, "a.jpg", None) == 53 * 80 * 3
    assert size_of_file(tmp_path, "a.jpg", 30) == 30 * 45 * 3
    assert size_of_file(tmp_path, "missing.jpg", 30) is None


def test_the_digest_covers_shape_pixels_and_mask():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert digest_of_pixels(pixels) == sha256(b"2x4\n" + bytes(range(24))).hexdigest()
    assert digest_of_pixels(pixels.reshape(4, 2, 3)) != digest_of_pixels(pixels)
    mask = np.arange(8, dtype=np.uint8).reshape(2, 4)
    assert digest_of_pixels(pixels, mask) == sha256(b"2x4\n" + bytes(range(24)) + bytes(range(8))).hexdigest()
