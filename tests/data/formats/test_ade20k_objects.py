"""Masks of ADE20K: the frame of the network, the names of objects, and masks that cannot be used."""

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.functional import InterpolationMode, center_crop, resize

from dctkd.data.annotations import read_annotations
from dctkd.data.cache import PixelCache
from dctkd.data.formats.ade20k_objects import STUFF, read_categories
from dctkd.data.prepare import prepare
from dctkd.errors import InputError
from tests.data.trees import make_ade20k, object_info, rewrite_list, write_list

NUM_VAL = 6


@pytest.fixture
def root(tmp_path):
    return make_ade20k(tmp_path / "data", num_train=1, num_val=NUM_VAL)


@pytest.fixture
def home(root):
    return root / "ADEChallengeData2016"


@pytest.fixture
def mask_path(home):
    return home / "annotations/validation/ADE_val_00000001.png"


@pytest.fixture
def read(tmp_path, root):
    def read(*, short_side=None, crop=32, at=root):
        cache = prepare("ade20k", {}, root, short_side, "fail", tmp_path / f"cache{short_side}", workers=1)
        return read_annotations(cache, format_name="ade20k", options={}, root=at, crop=crop)

    return read


def save_noise(path, *, palette=False):
    """Replace a mask by random ids from 0 to 150 and return it."""
    with Image.open(path) as before:
        size = before.size
    ids = np.random.default_rng(7).integers(0, 151, size[::-1]).astype(np.uint8)
    mask = Image.fromarray(ids)
    if palette:
        mask.putpalette([255 - value // 3 for value in range(768)])
        assert mask.mode == "P"
    mask.save(path)
    return mask


@pytest.mark.parametrize(("short_side", "crop"), [(None, 47), (33, 32), (40, 40), (75, 64), (120, 112)])
def test_masks_are_resized_and_cropped_as_torchvision_does_it(home, read, short_side, crop):
    masks = [save_noise(path) for path in sorted((home / "annotations/validation").iterdir())]
    annotations = read(short_side=short_side, crop=crop)
    assert annotations.problems == ()
    for index, mask in enumerate(masks):
        expected = mask if short_side is None else resize(mask, short_side, InterpolationMode.NEAREST)
        np.testing.assert_array_equal(annotations.mask(index), np.asarray(center_crop(expected, crop)))


def test_a_mask_lies_where_the_photograph_shows_the_object(tmp_path, root, home, mask_path):
    ids = np.zeros((80, 110), dtype=np.uint8)
    ids[20:50, 44:84] = 9
    Image.fromarray(ids).save(mask_path)
    pixels = np.repeat((ids > 0)[:, :, None] * 255, 3, axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(home / "images/validation/ADE_val_00000001.jpg", quality=100)
    cache = prepare("ade20k", {}, root, 40, "fail", tmp_path / "cache", workers=1)
    mask = read_annotations(cache, format_name="ade20k", options={}, root=root, crop=32).mask(0)
    top, left = 4, 12  # of the central 32 of 40 x 55 pixels; 11.5 is rounded to even
    np.testing.assert_array_equal(mask == 9, cache.image("test", 0)[top : top + 32, left : left + 32, 1] > 127)


def test_numbers_of_a_palette_are_ids_whatever_its_colours(read, mask_path):
    mask = save_noise(mask_path, palette=True)
    np.testing.assert_array_equal(read(crop=47).mask(0), np.asarray(center_crop(mask, 47)))


def test_a_mask_is_fresh_uint16_memory(read):
    annotations = read()
    annotations.mask(0)[:] = 99
    assert annotations.mask(0).dtype == np.uint16
    assert annotations.mask(0).max() == 4


def test_the_position_in_the_cache_counts_not_the_number_in_the_name(home, read, mask_path):
    rewrite_list(home / "sceneCategories.txt", lambda lines: lines[::-1])
    Image.fromarray(np.full(np.asarray(Image.open(mask_path)).shape, 77, dtype=np.uint8)).save(mask_path)
    assert (read().mask(NUM_VAL - 1) == 77).all()


def test_names_are_first_synonyms_and_marked_categories_are_surfaces(read):
    annotations = read()
    assert annotations.names[:4] == ("background", "thing1", "thing2", "thing3")
    assert len(annotations.names) == 151
    assert annotations.surfaces == {1, 3}
    assert annotations.object_ids() == {2, *range(4, 151)}


def test_no_object_is_said_to_decide_a_scene(read):
    assert read().relevant == (frozenset(),) * 5


def test_all_validation_images_are_annotated(read):
    annotations = read()
    assert (annotations.num_images, annotations.num_annotated, annotations.problems) == (NUM_VAL, NUM_VAL, ())


def test_without_the_column_surfaces_are_known_by_their_ids(home, read):
    write_list(home / "objectInfo150.txt", object_info(has_stuff_column=False))
    annotations = read()
    assert annotations.names[3] == "thing3"
    assert annotations.surfaces == STUFF
    assert annotations.problems == ()


def test_the_known_surfaces_are_35_of_150_with_wall_and_lake_and_without_tree_and_bed():
    # 35 stuff and 115 discrete categories: Zhou et al. 2019, "Semantic Understanding of Scenes through the ADE20K
    # Dataset", section 4. Rows of objectInfo150.txt: 1 wall, 3 sky, 129 lake; 5 tree, 8 bed, 150 flag.
    assert len(STUFF) == 35
    assert {1, 3, 129} <= STUFF <= set(range(1, 151))
    assert not {5, 8, 150} & STUFF


@pytest.mark.parametrize("folder", [".", "ADEChallengeData2016/lists", "lists"])
def test_the_names_lie_where_the_other_list_may(root, home, read, folder):
    (root / folder).mkdir(exist_ok=True)
    (home / "objectInfo150.txt").rename(root / folder / "objectInfo150.txt")
    assert read().names[1] == "thing1"


@pytest.mark.parametrize("line_end", ["\r\n", "\n\n"])
def test_windows_line_ends_and_a_byte_order_mark_change_nothing(home, read, line_end):
    expected = read()
    rewrite_list(home / "objectInfo150.txt", line_end=line_end, start=b"\xef\xbb\xbf")
    assert read() == expected


def test_without_the_list_objects_go_by_their_numbers_and_a_problem_says_so(home, read):
    (home / "objectInfo150.txt").unlink()
    annotations = read()
    assert annotations.names[:3] == ("background", "object 1", "object 2")
    assert (len(annotations.names), annotations.surfaces, annotations.num_annotated) == (151, STUFF, NUM_VAL)
    (problem,) = annotations.problems
    assert "the list objectInfo150.txt" in problem
    assert problem.endswith("; objects go by their numbers")


LINES = {
    "empty": lambda lines: [],
    "no header": lambda lines: lines[1:],
    "commas": lambda lines: [line.replace("\t", ",") for line in lines],
    "one row less": lambda lines: lines[:-1],
    "row 151": lambda lines: [*lines, "151\t0.1\t1\t1\t0\tthing"],
    "row 0": lambda lines: [*lines, "0\t0.1\t1\t1\t0\tthing"],
    "no name": lambda lines: [*lines[:9], "9\t0.1\t1\t1\t0", *lines[10:]],
    "words": lambda lines: [*lines[:9], "nine\t0.1\t1\t1\t0\tthing", *lines[10:]],
}


@pytest.mark.parametrize("name", LINES)
def test_a_list_that_does_not_fit_is_a_problem(home, read, name):
    path = rewrite_list(home / "objectInfo150.txt", LINES[name])
    with pytest.raises(InputError, match=r"objectInfo150\.txt.*; mend the list"):
        read_categories(path)
    annotations = read()
    assert (annotations.names[1], annotations.num_annotated) == ("object 1", NUM_VAL)


def test_missing_masks_are_counted_in_one_sentence(read, mask_path):
    mask_path.unlink()
    mask_path.with_name("ADE_val_00000003.png").unlink()
    annotations = read()
    assert [annotations.mask(index) is not None for index in range(4)] == [False, True, False, True]
    assert annotations.num_annotated == NUM_VAL - 2
    assert annotations.problems == (
        "annotations/validation: 2 of 6 masks do not exist, the first of them ADE_val_00000001.png; "
        "their images count as not annotated",
    )


def _as(mode):
    return lambda image: image.convert(mode)


def _bits(pixels):
    """A grey image of 16 bits per pixel."""
    return lambda image: Image.fromarray(np.asarray(image).astype(np.uint16) + pixels)


WRONG = {
    "colour": (_as("RGB"), "its mode is RGB, expected one byte per pixel"),
    "alpha": (_as("LA"), "its mode is LA"),
    "one bit": (_as("1"), "its mode is 1,"),
    "two bytes": (_bits(0), "its mode is I;16"),
    "transposed": (lambda image: image.rotate(90, expand=True), "pixels, which does not become the"),
    "cut": (lambda image: image.crop((0, 0, image.width - 3, image.height)), "pixels, which does not become the"),
    "unknown id": (lambda image: image.point(lambda value: 151 if value == 4 else value), "it has object id 151"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mask_that_cannot_be_right_is_left_out_and_listed(read, mask_path, name):
    change, message = WRONG[name]
    with Image.open(mask_path) as image:
        image.load()
    change(image).save(mask_path)
    annotations = read()
    assert (annotations.num_annotated, annotations.mask(0)) == (NUM_VAL - 1, None)
    (problem,) = annotations.problems
    assert problem.startswith("annotations/validation/ADE_val_00000001.png: ")
    assert message in problem
    assert problem.endswith("; the image counts as not annotated")


def _jpeg(path):
    with Image.open(path) as image:
        image.load()
    image.save(path, "JPEG")


def _flip_bytes(path):
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(255 - value for value in content[60:80])
    path.write_bytes(content)


BROKEN = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "header only": lambda path: path.write_bytes(path.read_bytes()[:33]),
    "damaged": _flip_bytes,
    "text": lambda path: path.write_text("<html>404</html>"),
    "JPEG, whose ids are blurred": _jpeg,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_whole_png_is_left_out_and_listed(root, read, mask_path, name):
    BROKEN[name](mask_path)
    annotations = read()
    assert (annotations.num_annotated, annotations.mask(0)) == (NUM_VAL - 1, None)
    (problem,) = annotations.problems
    assert problem.startswith("annotations/validation/ADE_val_00000001.png: it ")
    assert str(root) not in problem


def test_masks_outlive_their_files(read, mask_path):
    annotations = read()
    expected = annotations.mask(0)
    mask_path.unlink()
    np.testing.assert_array_equal(annotations.mask(0), expected)


def test_the_photographs_are_not_read_again(tmp_path, root, home, read):
    read()
    (home / "images/validation/ADE_val_00000001.jpg").write_bytes(b"")
    cache = PixelCache.open(tmp_path / "cacheNone")
    assert read_annotations(cache, format_name="ade20k", options={}, root=root, crop=32).num_annotated == NUM_VAL


def test_without_the_folder_there_are_no_annotations(home, read):
    (home / "annotations/validation").rename(home / "away")
    assert read() is None


@pytest.mark.parametrize("at", ["nowhere", "cacheNone", None])
def test_without_the_dataset_there_are_no_annotations(tmp_path, read, at):
    assert read(at=at and tmp_path / at) is None
