"""Similarities of every image to the images of its group, a fixed number of them whatever the batch size.

Shapes: B images, G groups, M images of a group, N similarities of an image, D numbers of an image's features.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dctkd.functional.precision import outside_autocast, widen


@outside_autocast
def similarities_in_groups(feature: Tensor, *, group_size: int) -> Tensor:
    """Return the inner products of every image's features with those of each image of its group.

    The batch is cut into consecutive groups of `group_size` images; the last one may be smaller. Column n belongs to
    the group's n-th image; where a group is smaller, the columns without an image are 0. The values grow with the
    square of the features' norm. The gradient reaches the features.

    Args:
        feature: Features, shape (B, ...), any float dtype.
        group_size: Number of images in a group, N >= 1.

    Returns:
        Tensor of shape (B, group_size), float32 or wider, in squared units of the features.

    Raises:
        ValueError: If there is no axis besides the batch, or the group size is below 1.

    Source:
        Chen et al. 2021, arXiv:2012.03236: similarity matrices F F^T, there of batches of one fixed size.

    Example:
        >>> similarities_in_groups(torch.tensor([[1.0, 0.0], [1.0, 2.0], [3.0, 3.0]]), group_size=2)
        tensor([[ 1.,  1.],
                [ 1.,  5.],
                [18.,  0.]])
    """
    if feature.dim() < 2 or group_size < 1:
        shape = tuple(feature.shape)
        raise ValueError(f"expected features (B, ...) and a group_size >= 1, got {shape} and {group_size}")
    num_images, group_images = len(feature), min(group_size, len(feature))
    flat_BD = widen(feature).flatten(1)
    padded_BD = F.pad(flat_BD, (0, 0, 0, -num_images % group_images))  # Images of zeros have similarity 0 to any.
    grouped_GMD = padded_BD.view(-1, group_images, flat_BD.shape[1])
    similarity_BM = torch.bmm(grouped_GMD, grouped_GMD.transpose(1, 2)).flatten(0, 1)[:num_images]
    return F.pad(similarity_BM, (0, group_size - group_images))
