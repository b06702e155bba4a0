"""A control of the DCT-driven loss: the magnitude of the DFT, which does not see where the network looks.

Paper (P1): as in dct.py. Not a method of the paper.
What it is for: the released code takes the real part of a DFT, which is blind to a reflection of the map through its
origin (dct_release.py, dct_main.py). The magnitude is blind to that and to every circular shift: two maps that differ
in nothing but the place of their peak are 0 apart. If it helps a student as much as `dct`, then agreeing on the place
with the teacher is not what helps.

Per stage: A = mean over channels of F^2; min-max to [0, 1]; minus its mean; D = |DFT2|; min-max to [0, 1]; L2 norm of
the difference per image; sum over stages, mean over the batch. Where sizes differ the larger map is pooled to the
smaller, as in `dct`.

Shapes: B images, H rows, W columns.
"""

from __future__ import annotations

from torch import Tensor

from dctkd.functional.attention import minmax_normalise
from dctkd.functional.fourier import dft2_magnitude
from dctkd.methods.dct import DCT


class DFTMagnitude(DCT):
    """As `dct`, on the magnitude of the DFT."""

    title = "DFT magnitude"
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
        """Return what is compared of a map, in [0, 1]; without its mean, so that the constant part sets no scale.

        Args:
            map_BHW: Activation maps, shape (B, H, W).
        """
        map_BHW = minmax_normalise(map_BHW)
        return minmax_normalise(dft2_magnitude(map_BHW - map_BHW.mean(dim=(1, 2), keepdim=True)))
