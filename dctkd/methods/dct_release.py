"""The DCT-driven loss as it was released with the published tables: no DCT, but the magnitude of a DFT's real part.

Paper (P1): as in dct.py.
Released code (branch dev at commit 486dda5, lines 65-95; the same as "Code for submission", commit 6726ee9, which is
behind the README's tables):
https://github.com/alexlopezcifuentes/Distillation-Attention/blob/dev/Distillation%20Zoo/DFTOurs.py

Per stage: A = mean over channels of F^2; (A - min A) / max A; minus its mean; D = |Re DFT2|; (D - min D) / max D; L2
norm of the difference per image; sum over stages, mean over the batch.

Differences from the released code: a constant map gives NaN there, zeros here. The release counts only the images that
the teacher classifies correctly: set `teacher_correct_only` of the row. For the audit; `dct` is the method that the
paper describes.

Shapes: B images, H rows, W columns.
"""

from __future__ import annotations

from torch import Tensor

from dctkd.functional.attention import shift_and_divide_by_max
from dctkd.functional.fourier import real_dft2
from dctkd.methods.dct import DCT


class DCTRelease(DCT):
    """As `dct`, on |Re DFT2| of the maps, each divided by its maximum."""

    title = "DCT (release)"
    paper = (
        "Lopez-Cifuentes, Escudero-Vinolo, Bescos and San Miguel: Attention-based Knowledge Distillation in Scene "
        "Recognition: The Impact of a DCT-driven Loss. IEEE TCSVT 2023, arXiv:2205.01997; "
        "as released with its tables."
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
        map_BHW = shift_and_divide_by_max(map_BHW)
        return shift_and_divide_by_max(real_dft2(map_BHW - map_BHW.mean(dim=(1, 2), keepdim=True)).abs())
