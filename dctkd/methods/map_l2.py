"""The control of the DCT-driven loss: the same activation maps, without a transform.

Paper (P1): as in dct.py, whose loss this is with the transform left out. Not a method of the paper.
What it is for: `dct` takes a map to [0, 1], subtracts the mean, transforms, takes the spectrum to [0, 1], and measures
the L2 distance. Without the transform the second normalisation undoes the subtraction and changes nothing more, so that
min-max and L2 remain. An orthonormal transform keeps L2 distances (Parseval): the DCT of these maps, compared as it is,
gives exactly this loss and its gradient. What tells `dct` from this control is thus how it normalises the spectrum (the
mean taken off, the rest divided by its span), not that it compares frequencies.

Per stage: A = mean over channels of F^2; min-max to [0, 1]; L2 norm of the difference per image; sum over stages, mean
over the batch. Where sizes differ the larger map is pooled to the smaller, as in `dct`.

Shapes: B images, H rows, W columns.
"""

from __future__ import annotations

from torch import Tensor

from dctkd.functional.attention import minmax_normalise
from dctkd.methods.dct import DCT


class MapL2(DCT):
    """Sum over stages of the L2 distance, per image, between the activation maps, each taken to [0, 1]."""

    title = "Map L2"
    paper = (
        "None; a control of the loss of Lopez-Cifuentes, Escudero-Vinolo, Bescos and San Miguel, IEEE TCSVT 2023, "
        "arXiv:2205.01997."
    )
    year = 2023
    features = "stages"
    default_weight = 1.0
    default_weight_source = "That of dct: a control"

    @staticmethod
    def spectrum(map_BHW: Tensor) -> Tensor:
        """Return what is compared of a map: the map, in [0, 1].

        Args:
            map_BHW: Activation maps, shape (B, H, W).
        """
        return minmax_normalise(map_BHW)
