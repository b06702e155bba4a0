"""Attention against annotated objects: how much of an activation map lies on objects of the image, and on which.

`coverage` divides the area of a map among object ids, once per image and map size; `attend_objects` then reads a map
against it. Within a cell of the map, its value counts as spread evenly over the cell.

Shapes: B images, O object ids, H rows, W columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_MASS_FRACTION = 0.1
"""An object that holds at least this part of a map's mass counts as held."""
ROUNDING = 1e-12
"""By this much a mass may fall short of `MIN_MASS_FRACTION`, so that rounding does not decide."""


def coverage(mask_BHW: Tensor, num_ids: int, height: int, width: int) -> Tensor:
    """Return the share of each cell's area that each object id covers.

    Cells are those of adaptive average pooling, so where the size of the mask is no multiple of theirs, neighbours
    overlap by up to one pixel. A cell smaller than a pixel takes the id of that pixel.

    Args:
        mask_BHW: Object id of each pixel, 0 for the background, shape (B, H, W), any integer dtype.
        num_ids: Number of ids O, background included; ids lie in [0, O).
        height: Rows of the activation map.
        width: Columns of the activation map.

    Returns:
        Shares in [0, 1], shape (B, O, height, width), float64; they sum to 1 over the ids, up to rounding.

    Raises:
        TypeError: If the mask is of a float dtype.
        ValueError: If the mask does not have three dimensions, a size is below 1, or an id is outside [0, O).

    Example:
        >>> coverage(torch.tensor([[[0, 0, 1, 1], [0, 0, 0, 1]]]), 2, 1, 2)[0, 1]
        tensor([[0.0000, 0.7500]], dtype=torch.float64)
    """
    if mask_BHW.is_floating_point() or mask_BHW.is_complex():
        raise TypeError(f"expected a mask of integer object ids, got {mask_BHW.dtype}")
    if mask_BHW.ndim != 3 or min(num_ids, height, width) < 1:
        got = f"shape {tuple(mask_BHW.shape)}, {num_ids} ids and {height} x {width} cells"
        raise ValueError(f"expected a mask of shape (B, H, W), at least 1 id and at least 1 x 1 cells, got {got}")
    # Widened: a uint8 cannot be compared with a num_ids above 255.
    mask_BHW = mask_BHW.long()
    outside = sorted(set(mask_BHW[(mask_BHW < 0) | (mask_BHW >= num_ids)].tolist()))
    if outside:
        raise ValueError(f"the mask holds the ids {outside}, but ids lie in 0 to {num_ids - 1}; raise num_ids")
    # Id by id: a one-hot mask of all ids at input resolution would not fit into memory.
    shares = [F.adaptive_avg_pool2d((mask_BHW == id_).double(), (height, width)) for id_ in range(num_ids)]
    return torch.stack(shares, dim=1)


def attend_objects(
    map_BHW: Tensor, coverage_BOHW: Tensor, is_object_BO: Tensor, is_relevant_BO: Tensor
) -> dict[str, Tensor]:
    """Return how activation maps lie on the objects of their images, one value per image and measure.

    - mass_on_objects: share of the map's mass (its sum) that lies on the objects, divided by their share of the area.
      1 is chance, above 1 they are preferred. NaN if they cover nothing.
    - mass_on_relevant: the same for the relevant ids. NaN if they cover nothing, so also where no id is relevant.
    - objects_held: number of object ids that hold at least 10 % of the mass each; 0 without objects.
    - pointing_game: share of the highest cell that the relevant ids cover, in [0, 1]: the probability that a random
      point of this cell hits one of them; the first such cell in reading order on ties. In images in which no id is
      relevant, all objects count instead. NaN if the ids that count cover nothing.

    All four are NaN for a map of zeros, which a constant map is after min-max normalisation, and for one with a NaN.

    Args:
        map_BHW: Min-max normalised maps, in [0, 1], shape (B, H, W), any float dtype.
        coverage_BOHW: Share of each cell that each id covers (see `coverage`), shape (B, O, H, W).
        is_object_BO: Which ids count as objects of the image, shape (B, O), bool; False for the background.
        is_relevant_BO: Which ids decide the class of the image, shape (B, O), bool.

    Returns:
        The four measures by name, each of shape (B,), float64; pure numbers.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If the flags are not bool.

    Source:
        Zhang et al. 2018, doi:10.1007/s11263-017-1059-x, for the pointing game; there the highest pixel of a map at
        input resolution hits or does not, within a tolerance of 15 pixels; here there is no tolerance.

    Example:
        >>> left_half_is_object = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]])
        >>> flags = torch.tensor([[False, True]])
        >>> attend_objects(torch.tensor([[[1.0, 0.25]]]), left_half_is_object, flags, flags)["mass_on_objects"]
        tensor([1.6000], dtype=torch.float64)
    """
    _check_shapes(map_BHW, coverage_BOHW, is_object_BO, is_relevant_BO)
    map_BP, coverage_BOP = map_BHW.double().flatten(1), coverage_BOHW.double().flatten(2)
    total_B = map_BP.sum(dim=1)
    has_mass_B = total_B > 0  # a NaN is not
    mass_BO = (coverage_BOP @ map_BP.unsqueeze(2)).squeeze(2) / total_B.unsqueeze(1)
    area_BO = coverage_BOP.mean(dim=2)
    is_held_BO = is_object_BO & (mass_BO >= MIN_MASS_FRACTION - ROUNDING)
    values = {
        "mass_on_objects": _mass_over_area(mass_BO, area_BO, is_object_BO),
        "mass_on_relevant": _mass_over_area(mass_BO, area_BO, is_relevant_BO),
        "objects_held": is_held_BO.sum(dim=1).double(),
        "pointing_game": _pointing_game(map_BP, coverage_BOP, is_object_BO, is_relevant_BO),
    }
    return {name: value_B.masked_fill(~has_mass_B, math.nan) for name, value_B in values.items()}


def _check_shapes(map_BHW: Tensor, coverage_BOHW: Tensor, is_object_BO: Tensor, is_relevant_BO: Tensor) -> None:
    sizes = coverage_BOHW.shape
    fits = len(sizes) == 4 and map_BHW.shape == sizes[:1] + sizes[2:]
    if not fits or not is_object_BO.shape == is_relevant_BO.shape == sizes[:2]:
        shapes = [tuple(tensor.shape) for tensor in (map_BHW, coverage_BOHW, is_object_BO, is_relevant_BO)]
        raise ValueError(f"expected the shapes (B, H, W), (B, O, H, W), (B, O) and (B, O), got {shapes}")
    if is_object_BO.dtype != torch.bool or is_relevant_BO.dtype != torch.bool:
        raise TypeError(f"expected bool flags of the ids, got {is_object_BO.dtype} and {is_relevant_BO.dtype}")


def _mass_over_area(mass_BO: Tensor, area_BO: Tensor, is_counted_BO: Tensor) -> Tensor:
    mass_B, area_B = (mass_BO * is_counted_BO).sum(dim=1), (area_BO * is_counted_BO).sum(dim=1)
    return mass_B / area_B.masked_fill(area_B == 0, math.nan)


def _pointing_game(map_BP: Tensor, coverage_BOP: Tensor, is_object_BO: Tensor, is_relevant_BO: Tensor) -> Tensor:
    is_target_BO = torch.where(is_relevant_BO.any(dim=1, keepdim=True), is_relevant_BO, is_object_BO)
    covered_BP = (coverage_BOP * is_target_BO.unsqueeze(2)).sum(dim=1)
    hit_B = covered_BP.gather(1, map_BP.argmax(dim=1, keepdim=True)).squeeze(1).clamp(max=1.0)
    return hit_B.masked_fill((covered_BP == 0).all(dim=1), math.nan)
