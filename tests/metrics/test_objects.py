"""Attention against annotated objects: coverage and measures against NumPy loops and hand-worked 2 x 2 maps."""

import math

import numpy as np
import pytest
import torch

from dctkd.metrics.objects import attend_objects, coverage

torch.set_num_threads(1)


def _mask(batch_size, height, width, num_ids, seed=0):
    return torch.randint(num_ids, (batch_size, height, width), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(1, 1), (2, 4), (3, 2), (7, 5), (8, 6)])
def test_coverage_counts_the_pixels_of_each_cell(size):
    mask_BHW = _mask(2, 8, 6, 4)
    expected = np.zeros((2, 4, *size))
    for row in range(size[0]):
        for column in range(size[1]):
            rows = slice(row * 8 // size[0], math.ceil((row + 1) * 8 / size[0]))
            columns = slice(column * 6 // size[1], math.ceil((column + 1) * 6 / size[1]))
            cell = mask_BHW.numpy()[:, rows, columns].reshape(2, -1)
            for id_ in range(4):
                expected[:, id_, row, column] = (cell == id_).mean(axis=1)
    np.testing.assert_allclose(coverage(mask_BHW.to(torch.uint8), 4, *size), expected, rtol=1e-12)


def test_coverage_sums_to_one_over_the_ids():
    np.testing.assert_allclose(coverage(_mask(3, 9, 7, 5), 6, 4, 3).sum(dim=1), 1.0, rtol=1e-12)


def test_cells_smaller_than_a_pixel_take_its_id():
    mask_BHW = torch.tensor([[[0, 1]]])
    assert coverage(mask_BHW, 2, 2, 4)[0, 1].tolist() == [[0.0, 0.0, 1.0, 1.0]] * 2


def test_more_ids_than_a_byte_can_count_are_covered():
    assert coverage(torch.full((1, 2, 2), 255, dtype=torch.uint8), 300, 1, 1).flatten().nonzero().tolist() == [[255]]


@pytest.mark.parametrize("id_", [-1, 3])
def test_an_unknown_id_is_refused(id_):
    with pytest.raises(ValueError, match=rf"holds the ids \[{id_}\], but ids lie in 0 to 2"):
        coverage(torch.tensor([[[0, id_]]]), 3, 1, 1)


def test_a_mask_that_cannot_be_covered_is_refused():
    with pytest.raises(TypeError, match=r"integer object ids, got torch\.float32"):
        coverage(torch.zeros(1, 2, 2), 2, 1, 1)
    with pytest.raises(ValueError, match=r"got shape \(2, 2\)"):
        coverage(torch.zeros(2, 2, dtype=torch.int64), 2, 1, 1)
    with pytest.raises(ValueError, match="0 x 1 cells"):
        coverage(torch.zeros(1, 2, 2, dtype=torch.int64), 2, 0, 1)


# Ids 0 (background), 1 and 2. Id 1 covers the upper left cell and half the upper right one, id 2 the lower left one.
COVERAGE = torch.tensor([[[[0.0, 0.5], [0.0, 1.0]], [[1.0, 0.5], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]]])
MAP = torch.tensor([[[0.5, 1.0], [0.0, 0.5]]])
OBJECTS = torch.tensor([[False, True, True]])
ONLY_1, ONLY_2, NONE = (torch.tensor([[False, *flags]]) for flags in ((True, False), (False, True), (False, False)))


def _attend(map_BHW=MAP, coverage_BOHW=COVERAGE, is_object_BO=OBJECTS, is_relevant_BO=ONLY_1):
    return {
        name: value.item()
        for name, value in attend_objects(map_BHW, coverage_BOHW, is_object_BO, is_relevant_BO).items()
    }


def test_a_hand_worked_map_has_its_values():
    # Mass 2. Objects: (0.5 + 0.5 + 0) / 2 on 2.5 / 4 of the area. Id 1: the same mass on 1.5 / 4 of the area.
    assert _attend() == pytest.approx(
        {"mass_on_objects": 0.5 / 0.625, "mass_on_relevant": 0.5 / 0.375, "objects_held": 1.0, "pointing_game": 0.5},
        rel=1e-12,
    )


def test_measures_agree_with_numpy_loops():
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(6, 4, 3, generator=generator)
    shares = coverage(_mask(6, 16, 15, 5), 5, 4, 3)
    is_object, is_relevant = (torch.rand(6, 5, generator=generator) < fraction for fraction in (0.8, 0.5))
    is_relevant[:, 2] = is_object[:, 1] = True
    values = attend_objects(maps, shares, is_object, is_relevant)
    for image in range(6):
        map_HW, share_OHW = maps[image].double().numpy(), shares[image].numpy()
        mass = [float((map_HW * share_HW).sum() / map_HW.sum()) for share_HW in share_OHW]
        area = [float(share_HW.mean()) for share_HW in share_OHW]
        objects, relevant = (np.flatnonzero(flags[image]) for flags in (is_object, is_relevant))
        highest = np.unravel_index(map_HW.argmax(), map_HW.shape)
        expected = {
            "mass_on_objects": sum(mass[id_] for id_ in objects) / sum(area[id_] for id_ in objects),
            "mass_on_relevant": sum(mass[id_] for id_ in relevant) / sum(area[id_] for id_ in relevant),
            "objects_held": sum(mass[id_] >= 0.1 for id_ in objects),
            "pointing_game": sum(share_OHW[id_][highest] for id_ in relevant),
        }
        assert {name: value[image].item() for name, value in values.items()} == pytest.approx(expected, rel=1e-11)


def test_an_even_map_is_at_chance_on_whatever_it_covers():
    shares = coverage(_mask(1, 8, 8, 3), 3, 4, 4)
    assert _attend(torch.ones(1, 4, 4), shares)["mass_on_objects"] == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(("mass", "num_held"), [(0.1, 1.0), (0.0999, 0.0)])
def test_an_object_is_held_from_a_tenth_of_the_mass_on(mass, num_held):
    map_BHW = torch.tensor([[[mass, 0.4], [0.3, 0.3 - mass]]], dtype=torch.float64)
    map_BHW[0, 1, 1] = 1 - map_BHW[0, 0].sum() - map_BHW[0, 1, 0]
    upper_left = torch.tensor([[[[0.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    assert _attend(map_BHW, upper_left)["objects_held"] == num_held


def test_rounding_does_not_decide_whether_an_object_is_held():
    map_BHW = torch.full((1, 1, 10), 0.7, dtype=torch.float64)  # 0.7 over the sum of ten 0.7 falls short of 0.1
    shares = torch.eye(10, dtype=torch.float64).view(1, 10, 1, 10)
    everything = torch.ones(1, 10, dtype=torch.bool)
    assert _attend(map_BHW, shares, everything, everything)["objects_held"] == 10.0


def test_only_objects_are_held():
    assert _attend(is_object_BO=NONE)["objects_held"] == 0.0


def test_the_first_of_several_highest_cells_points():
    assert _attend(torch.tensor([[[0.2, 0.0], [1.0, 1.0]]]), is_relevant_BO=ONLY_2)["pointing_game"] == 1.0


def test_without_relevant_ids_every_object_can_be_pointed_at():
    assert _attend(torch.tensor([[[0.2, 0.0], [1.0, 0.0]]]), is_relevant_BO=NONE)["pointing_game"] == 1.0


def test_with_relevant_ids_other_objects_are_no_hit():
    assert _attend(torch.tensor([[[0.2, 0.0], [1.0, 0.0]]]), is_relevant_BO=ONLY_1)["pointing_game"] == 0.0


def _undefined(values):
    return {name for name, value in values.items() if math.isnan(value)}


ALL = {"mass_on_objects", "mass_on_relevant", "objects_held", "pointing_game"}


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_nothing_is_defined_for_a_map_without_mass(value):
    map_BHW = torch.zeros(1, 2, 2)
    map_BHW[0, 1, 0] = value
    assert _undefined(_attend(map_BHW)) == ALL


def test_mass_on_relevant_ids_is_undefined_without_them():
    assert _undefined(_attend(is_relevant_BO=NONE)) == {"mass_on_relevant"}


def test_objects_that_cover_nothing_leave_only_the_number_held_defined():
    shares = torch.zeros(1, 3, 2, 2)
    shares[:, 0] = 1.0
    assert _undefined(_attend(coverage_BOHW=shares)) == ALL - {"objects_held"}


def test_an_image_does_not_see_the_others_of_its_batch():
    maps = torch.rand(5, 4, 4, generator=torch.Generator().manual_seed(0))
    maps[1], maps[3, 0, 0] = 0.0, math.nan
    shares = coverage(_mask(5, 8, 8, 3), 3, 4, 4)
    is_object, is_relevant = OBJECTS.repeat(5, 1), OBJECTS.repeat(5, 1)
    is_relevant[2] = False
    whole = attend_objects(maps, shares, is_object, is_relevant)
    for image in (4, 2, 3, 0, 1):
        part = [image]
        alone = attend_objects(maps[part], shares[part], is_object[part], is_relevant[part])
        for name, value in whole.items():
            torch.testing.assert_close(alone[name], value[part], rtol=1e-12, atol=0, equal_nan=True)


def test_values_are_float64_also_for_narrow_maps():
    values = attend_objects(MAP.bfloat16(), COVERAGE, OBJECTS, ONLY_1)
    assert {(value.dtype, tuple(value.shape)) for value in values.values()} == {(torch.float64, (1,))}


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"got \[\(1, 2, 3\), \(1, 3, 2, 2\), \(1, 3\), \(1, 3\)\]"):
        attend_objects(torch.zeros(1, 2, 3), COVERAGE, OBJECTS, ONLY_1)
    with pytest.raises(ValueError, match=r"\(1, 2\)\]"):
        attend_objects(MAP, COVERAGE, OBJECTS, ONLY_1[:, :2])
    with pytest.raises(TypeError, match=r"bool flags of the ids, got torch\.bool and torch\.int64"):
        attend_objects(MAP, COVERAGE, OBJECTS, ONLY_1.long())
