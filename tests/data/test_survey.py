"""Counting a dataset before a pixel is decoded."""

import pytest
from PIL import Image

from dctkd.data.survey import survey
from dctkd.errors import InputError


def test_a_rendered_dataset_is_what_its_options_say():
    assert survey("synthscenes", {"num_train_images": 60, "num_test_images": 24}, None) == (12, 60, 24)


def test_photographs_are_counted_from_their_folders(tmp_path):
    for split, number in (("train", 3), ("test", 2)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(number):
                Image.new("RGB", (4, 4)).save(tmp_path / split / name / f"{index}.png")
    assert survey("imagefolder", {}, tmp_path) == (2, 6, 4)


def test_photographs_without_a_root_are_refused():
    with pytest.raises(InputError, match="give the folder"):
        survey("imagefolder", {}, None)
