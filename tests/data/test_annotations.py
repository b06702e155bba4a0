"""The annotated objects of test images lie in the frame that the network sees."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import center_crop

from dctkd.config import InputRecipe
from dctkd.data.annotations import Annotations, read_annotations
from dctkd.data.batches import test_batches as batches_of_test
from dctkd.data.central_crop import central_corners
from dctkd.data.formats.synthscenes import Options, mask_names, render
from dctkd.data.manifest import Rendered
from dctkd.data.packing import pack
from dctkd.data.prepare import prepare
from dctkd.errors import InputError

SCENES = {"num_classes": 4, "num_object_types": 4, "num_train_images": 4, "num_test_images": 9, "image_side": 37}


def _read(cache, crop, format_name="synthscenes", options=SCENES, root=None):
    return read_annotations(cache, format_name=format_name, options=options, root=root, crop=crop)


@pytest.fixture
def scenes(tmp_path):
    return prepare("synthscenes", SCENES, None, None, "fail", tmp_path / "cache", workers=1)


@pytest.fixture
def pack_positions(tmp_path):
    """Pack images whose red and green say row and column, with masks that say 7 * row + column modulo 251."""

    def make(height, width):
        rows, columns = np.mgrid[:height, :width].astype(np.uint8)
        images = np.stack([rows, columns, np.zeros_like(rows)], axis=2)[None]
        names = ("background", *(f"object{number}" for number in range(1, 251)))
        masks = ((7 * rows.astype(int) + columns) % 251).astype(np.uint8)[None]
        one = Rendered(images, np.zeros(1, dtype=np.int64), masks, ("only",), names)
        return pack({"train": one, "test": one}, tmp_path / "positions", short_side=None, workers=1)

    return make


@pytest.mark.parametrize(
    ("size", "crop"), [((40, 40), 40), ((41, 40), 32), ((40, 45), 32), ((37, 43), 32), ((39, 33), 32), ((64, 100), 63)]
)
def test_a_mask_is_cut_where_the_pixels_of_the_batch_are(pack_positions, size, crop):
    cache = pack_positions(*size)
    recipe = InputRecipe(crop=crop, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    (batch,) = batches_of_test(cache, recipe, batch_size=1)
    rows, columns, _ = (batch.images_BCHW[0] * 255).round().int().numpy()
    np.testing.assert_array_equal(_read(cache, crop).mask(0), (7 * rows + columns) % 251)


@pytest.mark.parametrize("size", [(8, 8), (9, 8), (10, 11), (11, 13), (15, 12), (12, 15)])
def test_the_corner_is_that_of_torchvision(size):
    positions = torch.arange(size[0] * size[1]).view(1, *size)
    top, left = divmod(int(center_crop(positions, [8, 8])[0, 0, 0]), size[1])
    assert central_corners(np.array([size]), 8).tolist() == [[top, left]]


def test_masks_of_scenes_keep_the_ids_that_were_rendered(scenes):
    masks = render(Options(**SCENES), "test").masks
    annotations = _read(scenes, 37)
    assert [(annotations.mask(index) == masks[index]).all() for index in range(9)] == [True] * 9


def test_a_mask_is_16_bits_wide_and_may_be_written_to(scenes):
    mask = _read(scenes, 32).mask(0)
    assert (mask.dtype, mask.shape, mask.flags.writeable) == (np.uint16, (32, 32), True)


def test_all_scenes_are_annotated(scenes):
    annotations = _read(scenes, 32)
    assert (annotations.num_images, annotations.num_annotated, annotations.problems) == (9, 9, ())


def test_names_of_scenes_include_the_background_and_clutter(scenes):
    assert _read(scenes, 32).names == mask_names(Options(**SCENES))


def test_relevant_ids_are_named_by_the_class(scenes):
    annotations = _read(scenes, 32)
    for label, name in enumerate(scenes.classes):
        assert {annotations.names[number] for number in annotations.relevant_ids(label)} == set(name.split("_")[:-1])


def test_clutter_is_an_object_that_decides_nothing(scenes):
    annotations = _read(scenes, 32)
    clutter = {number for number, name in enumerate(annotations.names) if name.startswith("clutter_")}
    relevant = set().union(*(annotations.relevant_ids(label) for label in range(4)))
    assert clutter
    assert clutter <= annotations.object_ids()
    assert not clutter & relevant


def test_every_image_shows_just_the_relevant_objects_of_its_class(scenes):
    annotations = _read(scenes, 37)
    types = set().union(*(annotations.relevant_ids(label) for label in range(4)))
    for index, label in enumerate(scenes.labels("test").tolist()):
        assert set(np.unique(annotations.mask(index)).tolist()) & types == annotations.relevant_ids(label)


def test_the_background_is_no_object(scenes):
    annotations = _read(scenes, 32)
    assert annotations.object_ids() == set(range(1, len(annotations.names)))


@pytest.mark.parametrize("index", [-1, 9])
def test_an_image_that_does_not_exist_is_an_error(scenes, index):
    with pytest.raises(IndexError, match=f"expected the index of one of 9 test images, got {index}"):
        _read(scenes, 32).mask(index)


@pytest.mark.parametrize("label", [-1, 4])
def test_a_class_that_does_not_exist_is_an_error(scenes, label):
    with pytest.raises(IndexError, match=f"expected one of 4 labels, from 0, got {label}"):
        _read(scenes, 32).relevant_ids(label)


def test_a_crop_larger_than_an_image_is_an_error(scenes):
    with pytest.raises(InputError, match="9 test images are smaller than the crop of 38 pixels"):
        _read(scenes, 38)


def test_a_format_without_annotations_gives_none(scenes):
    assert _read(scenes, 32, "imagefolder", {}) is None


def test_an_unknown_format_is_an_error(scenes):
    with pytest.raises(InputError, match="unknown format 'synthscene'"):
        _read(scenes, 32, "synthscene")


def test_equality_does_not_ask_for_masks():
    first, second = (Annotations(("background",), 0, 0, (), draw) for draw in (lambda _: None, lambda _: None))
    assert first == second


def test_importing_annotations_loads_neither_torch_nor_pil():
    code = "import sys, dctkd.data.annotations; print(sorted({'torch', 'PIL', 'timm', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
