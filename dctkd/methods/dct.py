"""DCT-driven loss: compare the spectra of activation maps instead of the maps.

Paper (P1): Lopez-Cifuentes, Escudero-Vinolo, Bescos and San Miguel, "Attention-based Knowledge Distillation in Scene
Recognition: The Impact of a DCT-driven Loss", IEEE TCSVT 2023, arXiv:2205.01997.
Released code:
https://github.com/alexlopezcifuentes/Distillation-Attention/blob/3d70d151545cb636538be365d1178a6fb7782717/Distillation%20Zoo/DFTOurs.py

Differences from the paper: none known; the paper says 2-D DCT, and this is one.
Differences from the released code: it takes the real part of a DFT, which is blind to a reflection of the map through
its origin: two Gaussian blobs in opposite corners of a 14x14 map are 0.17 apart there and 2.34 here. Its first release
takes absolute values and divides by the unshifted maximum instead of max - min. A constant map gives NaN there, zeros
here, and the norm has a finite gradient at 0. Where sizes differ the larger map is pooled to the smaller (P1's pairs
agree in size). The release counts only the images that the teacher classifies correctly; here that is
`teacher_correct_only` of the experiment file, for any method. The L2 distance grows with the number of positions, so
that early stages weigh most: uniform noise is 11, 6.4, 3.8 and 2.2 apart at 56, 28, 14 and 7 positions a side;
`size_normalised` takes that out.

Shapes: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dctkd.functional.attention import activation_map, minmax_normalise, pool_to_smaller
from dctkd.functional.dct import dct2
from dctkd.methods.base import Batch, Method
from dctkd.methods.options import MethodOptions, later_option
from dctkd.models import Outputs


class DCTOptions(MethodOptions):
    """Options of dct and of the methods that differ from it in the spectrum alone."""

    size_normalised: bool = later_option(
        False,
        description="whether each stage's distance is divided by sqrt(H W) of the compared maps, so that maps of all "
        "sizes weigh alike; the release: false",
    )


class DCT(Method):
    """Sum over stages of the L2 distance, per image, between the normalised DCT-II spectra of the activation maps."""

    Options = DCTOptions
    title = "DCT"
    paper = (
        "Lopez-Cifuentes, Escudero-Vinolo, Bescos and San Miguel: Attention-based Knowledge Distillation in Scene "
        "Recognition: The Impact of a DCT-driven Loss. IEEE TCSVT 2023, arXiv:2205.01997."
    )
    year = 2023
    features = "stages"
    default_weight = 1.0
    default_weight_source = "P1's release: ALPHA 1 (Config/Distillation/config_DFT.yaml), on all branches"

    options: DCTOptions

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return one term per stage, {"stage1": ...}."""
        pairs = zip(student.stages, teacher.stages, strict=True)
        return {f"stage{n}": batch.mean(self._distance(*features)) for n, features in enumerate(pairs, start=1)}

    def _distance(self, student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
        student_BHW, teacher_BHW = pool_to_smaller(activation_map(student_BCHW), activation_map(teacher_BCHW))
        difference_BHW = self.spectrum(student_BHW) - self.spectrum(teacher_BHW)
        distance_B: Tensor = torch.linalg.vector_norm(difference_BHW, dim=(1, 2))
        return distance_B / math.sqrt(difference_BHW[0].numel()) if self.options.size_normalised else distance_B

    @staticmethod
    def spectrum(map_BHW: Tensor) -> Tensor:
        """Return what is compared of a map, in [0, 1]; without its mean, so that the constant part sets no scale.

        Args:
            map_BHW: Activation maps, shape (B, H, W).
        """
        map_BHW = minmax_normalise(map_BHW)  # Its scale cancels in the second one; it is there to blank constant maps.
        return minmax_normalise(dct2(map_BHW - map_BHW.mean(dim=(1, 2), keepdim=True)))
