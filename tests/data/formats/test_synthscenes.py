"""Rendered scenes: the class is certain, no object alone gives it away, each image is a function of its number."""

import hashlib
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from dctkd.config import explain
from dctkd.data.formats.synthscenes import Options, class_table, mask_names, render
from dctkd.data.formats.synthscenes_shapes import CLUTTER_SHAPES, OBJECT_SHAPES

VARIANTS = {
    "default": {},
    "three objects": {"objects_per_class": 3, "num_object_types": 6, "arrangements_per_group": 2},
    "four arrangements": {"num_object_types": 4, "arrangements_per_group": 4},
    "eight types": {"num_classes": 16, "num_object_types": 8, "arrangements_per_group": 2},
    "no nuisance": {"clutter": 0, "noise": 0, "background": 0, "colour": 0, "max_rotation_degrees": 0},
    "much clutter": {"clutter": 8, "max_tilt": 0.8},
    "odd classes": {"num_classes": 7, "num_object_types": 3, "arrangements_per_group": 3},
    "small": {"image_side": 36},
}


def small(**changes):
    return Options(**{"num_train_images": 24, "num_test_images": 24, **changes})


def digest(rendered):
    return hashlib.sha256(rendered.images.tobytes() + rendered.labels.tobytes() + rendered.masks.tobytes()).hexdigest()


def name_from_mask(mask, names):
    """Name a scene by its objects' centroids: the wider spread is the direction, the order along it the sequence."""
    centroids = {}
    for value in np.unique(mask):
        if names[value] in OBJECT_SHAPES:
            rows, columns = np.nonzero(mask == value)
            centroids[names[value]] = (columns.mean(), rows.mean())
    spread = np.ptp(np.array(list(centroids.values())), axis=0)
    axis = 0 if spread[0] > spread[1] else 1
    order = sorted(centroids, key=lambda name: centroids[name][axis])
    return "_".join([*order, ("row", "column")[axis]])


def best_accuracy_from(features, labels):
    """Accuracy of the best possible classifier that sees one discrete feature per image."""
    votes = {}
    for feature, label in zip(features, labels, strict=True):
        votes.setdefault(feature, Counter())[label] += 1
    return sum(counts.most_common(1)[0][1] for counts in votes.values()) / len(labels)


def test_the_same_options_give_the_same_bytes():
    assert digest(render(small(), "train")) == digest(render(small(), "train"))


def test_the_bytes_are_the_same_in_another_process():
    code = (
        "import hashlib; from dctkd.data.formats.synthscenes import Options, render;"
        "r = render(Options(num_train_images=6), 'train');"
        "print(hashlib.sha256(r.images.tobytes() + r.labels.tobytes() + r.masks.tobytes()).hexdigest())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert printed == digest(render(Options(num_train_images=6), "train"))


def test_an_image_does_not_depend_on_how_many_there_are():
    few, many = render(small(num_train_images=10), "train"), render(small(num_train_images=31), "train")
    assert np.array_equal(few.images, many.images[:10])
    assert np.array_equal(few.masks, many.masks[:10])
    assert np.array_equal(few.labels, many.labels[:10])


def test_seed_and_split_change_every_image():
    first = render(small(), "train").images
    for other in (render(small(seed=1), "train").images, render(small(), "test").images):
        assert (first != other).any(axis=(1, 2, 3)).all()


def test_images_of_a_split_differ():
    images = render(small(noise=0), "train").images
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize("split", ["train", "test"])
def test_classes_are_balanced(split):
    counts = Counter(render(small(num_train_images=29, num_test_images=29), split).labels.tolist())
    assert set(counts) == set(range(12))
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_shapes_and_types_are_as_promised(changes):
    options = small(**changes)
    rendered = render(options, "test")
    side = options.image_side
    assert (rendered.images.shape, rendered.images.dtype) == ((24, side, side, 3), np.uint8)
    assert (rendered.masks.shape, rendered.masks.dtype) == ((24, side, side), np.uint8)
    assert rendered.labels.dtype == np.int64
    assert len(rendered.class_names) == len(set(rendered.class_names)) == options.num_classes
    assert rendered.masks.max() < len(rendered.mask_names)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_masks_alone_decide_the_class(changes):
    rendered = render(small(num_test_images=150, **changes), "test")
    found = [name_from_mask(mask, rendered.mask_names) for mask in rendered.masks]
    assert found == [rendered.class_names[label] for label in rendered.labels]


@pytest.mark.slow
def test_masks_alone_decide_the_class_of_every_test_image():
    rendered = render(Options(), "test")
    found = [name_from_mask(mask, rendered.mask_names) for mask in rendered.masks]
    assert found == [rendered.class_names[label] for label in rendered.labels]


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_every_object_type_occurs_in_several_classes(changes):
    options = Options(**changes)
    uses = Counter(kind for scene in class_table(options) for kind in scene.objects)
    assert set(uses) == set(range(options.num_object_types))
    assert min(uses.values()) >= 2


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_classes_share_their_objects_and_differ_in_arrangement(changes):
    table = class_table(Options(**changes))
    assert len(set(table)) == len(table)
    groups = Counter(frozenset(scene.objects) for scene in table)
    assert max(groups.values()) == Options(**changes).arrangements_per_group


def test_presence_of_one_object_bounds_accuracy_at_two_classes_in_twelve():
    rendered = render(small(num_test_images=120), "test")
    for kind in range(1, Options().num_object_types + 1):
        present = [bool((mask == kind).any()) for mask in rendered.masks]
        assert best_accuracy_from(present, rendered.labels.tolist()) == pytest.approx(2 / 12)


def test_presence_of_all_objects_bounds_accuracy_at_a_half():
    # Six sets of objects, a row and a column each: who knows the set still guesses one of two.
    rendered = render(small(num_test_images=120), "test")
    objects = np.arange(1, Options().num_object_types + 1)
    present = [tuple(np.isin(objects, mask).tolist()) for mask in rendered.masks]
    assert best_accuracy_from(present, rendered.labels.tolist()) == pytest.approx(6 / 12)


def test_masks_cover_exactly_the_pixels_that_objects_change():
    # Without noise the background is a smooth field; painting nothing shows it, since its stream is its own.
    options = small(noise=0, clutter=0, min_contrast=120)
    rendered = render(options, "test")
    other = render(
        options.model_copy(update={"max_rotation_degrees": 0.0, "min_radius": 0.1, "max_radius": 0.1}), "test"
    )
    outside = (rendered.masks == 0) & (other.masks == 0)
    assert np.array_equal(rendered.images[outside], other.images[outside])
    only_first = (rendered.masks > 0) & (other.masks == 0)
    changed = (rendered.images[only_first] != other.images[only_first]).any(axis=-1)
    # A pixel at the rim may be covered so little that rounding hides it.
    assert changed.mean() > 0.97


def test_noise_and_clutter_move_no_object():
    plain, busy = render(small(noise=0, clutter=0), "test"), render(small(noise=30, clutter=6), "test")
    count = Options().num_object_types
    assert np.array_equal(plain.masks, np.where(busy.masks <= count, busy.masks, 0))


def test_clutter_has_mask_values_of_its_own():
    options = small(clutter=5)
    names = mask_names(options)
    clutter = {value for value, name in enumerate(names) if name.startswith("clutter_")}
    assert clutter == set(range(options.num_object_types + 1, options.num_object_types + 1 + len(CLUTTER_SHAPES)))
    assert not set(CLUTTER_SHAPES) & set(OBJECT_SHAPES)
    assert clutter <= set(np.unique(render(options, "test").masks).tolist())
    assert not clutter & set(np.unique(render(small(clutter=0), "test").masks).tolist())


def test_noise_has_the_standard_deviation_that_was_asked_for():
    changes = {"background": 0, "min_contrast": 0, "max_contrast": 0, "colour": 0, "clutter": 0}
    plain = render(small(noise=0, **changes), "test").images.astype(float)
    noisy = render(small(noise=10, **changes), "test").images.astype(float)
    difference = noisy - plain
    # Rounding adds 1/12 grey level squared; 370,000 samples leave a standard error of 0.012.
    assert difference.std() == pytest.approx(np.sqrt(100 + 1 / 12), abs=0.1)
    assert difference.mean() == pytest.approx(0, abs=0.1)


def test_objects_stay_inside_the_central_crop():
    rendered = render(small(num_test_images=60), "test")
    border = np.ones((72, 72), dtype=bool)
    border[4:68, 4:68] = False
    on_border = rendered.masks[:, border]
    assert not ((on_border > 0) & (on_border <= Options().num_object_types)).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 40}, "lower num_classes or raise num_object_types"),
        ({"num_object_types": 8, "num_classes": 4}, "raise num_classes or lower num_object_types"),
        ({"max_radius": 0.2}, "min_radius 0.28 must not exceed max_radius 0.2"),
        ({"min_contrast": 121}, "min_contrast 121.0 must not exceed max_contrast 120.0"),
        ({"cluter": 1}, "did you mean 'clutter'"),
    ],
)
def test_impossible_options_say_what_to_do(changes, message):
    with pytest.raises(ValidationError) as caught:
        Options(**changes)
    assert message in explain(caught.value)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split must be train or test, got 'val'"):
        render(small(), "val")


def test_options_load_without_numpy_or_torch():
    code = (
        "import sys; from dctkd.data.formats.synthscenes import Options; Options();"
        "print([name for name in ('numpy', 'torch', 'PIL') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.slow
def test_the_default_dataset_renders_in_ten_seconds_of_one_core():
    start = time.process_time()
    for split in ("train", "test"):
        render(Options(), split)
    assert time.process_time() - start < 10


def test_neighbours_in_a_row_stand_in_order_without_touching():
    rendered = render(
        small(num_test_images=60, objects_per_class=3, num_object_types=6, arrangements_per_group=2), "test"
    )
    for mask, label in zip(rendered.masks, rendered.labels, strict=True):
        *objects, direction = rendered.class_names[label].split("_")
        axis = 1 if direction == "row" else 0
        spans = [np.nonzero(mask == rendered.mask_names.index(name))[axis] for name in objects]
        assert all(before.max() < after.min() for before, after in pairwise(spans))
