"""The DCT-driven loss as on the default branch of its release: the signed real part of a DFT.

Paper (P1): as in dct.py.
Released code:
https://github.com/alexlopezcifuentes/Distillation-Attention/blob/3d70d151545cb636538be365d1178a6fb7782717/Distillation%20Zoo/DFTOurs.py

Per stage: A = mean over channels of F^2; min-max to [0, 1]; minus its mean; D = Re DFT2; min-max to [0, 1]; L2 norm of
the difference per image; sum over stages, mean over the batch. The default branch takes no absolute value; the code
behind the published tables does (dct_release.py).

Differences from the released code: a constant map gives NaN there, zeros here. The release counts only the images that
the teacher classifies correctly: set `teacher_correct_only` of the row. For the audit; `dct` is the method that the
paper describes.

Shapes: B images, H rows, W columns.
"""

from __future__ import annotations

from torch import Tensor

from dctkd.functional.attention import minmax_normalise
from dctkd.functional.fourier import real_dft2
from dctkd.methods.dct import DCT


class DCTMain(DCT):
    """As `dct`, on the signed real part of the DFT."""

    title = "DCT (main branch)"
    paper = (
        "Lopez-Cifuentes, Escudero-Vinolo, Bescos and San Miguel: Attention-based Knowledge Distillation in Scene "
        "Recognition: The Impact of a DCT-driven Loss. IEEE TCSVT 2023, arXiv:2205.01997; "
        "as on the default branch of its release."
    )
    year = 2023
    features = "stages"
    default_weight = 1.0
    default_weight_source = "P1's release: ALPHA 1 (Config/Distillation/config_DFT.yaml), on all branches"

    @staticmethod
    def spectrum(map_BHW: Tensor) -> Tensor:
        """Return what is compared of a map.

        Args:
            map_BHW: Activation maps, shape (B, H, W).
        """
        map_BHW = minmax_normalise(map_BHW)
        return minmax_normalise(real_dft2(map_BHW - map_BHW.mean(dim=(1, 2), keepdim=True)))
