"""Attention transfer on activation maps.

Paper: Zagoruyko and Komodakis, "Paying More Attention to Attention: Improving the Performance of Convolutional Neural
Networks via Attention Transfer", ICLR 2017, arXiv:1612.03928, section 3.1, equation 2 with Q = F_sum^2 and p = 2.
Reference code:
https://github.com/HobbitLong/RepDistiller/blob/1e2f81692647991a80a1e97ffa14e2af915eaa6f/distiller_zoo/AT.py

Differences from the paper: the squared difference is averaged over positions (as in both public codes) where equation 2
has a norm.
Differences from the code: where sizes differ the larger *map* is pooled; the code pools the larger *features* before
squaring, which costs C times as much and lets signs cancel. Along each side the smaller size is met, so non-square
maps work. All stages count, as in P1; RepDistiller's `[1:-1]` leaves out the stem and the pooled features, which are no
stages here. P1's release leaves out the first stage of `vid` and `semckd` but not of this method; `skip_first_stage`
compares the same stages as they do there.

Shapes: B images, C channels, H rows, W columns, P = H W positions.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dctkd.functional.attention import activation_map, pool_to_smaller
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.options import MethodOptions, later_option
from dctkd.methods.stages import num_first_stages_skipped
from dctkd.models import ModelSpec, Outputs


class ATOptions(MethodOptions):
    """Options of at."""

    skip_first_stage: bool = later_option(
        False, description="whether the first stage is left out, as P1's release does for vid and semckd, but not here"
    )


class AT(Method):
    """Sum over stages of the mean over positions of (Qs / |Qs| - Qt / |Qt|)^2, Q = vec(mean over channels of F^2)."""

    Options = ATOptions
    title = "AT"
    paper = "Zagoruyko and Komodakis: Paying More Attention to Attention. ICLR 2017, arXiv:1612.03928."
    year = 2017
    features = "stages"
    default_weight = 1000.0
    default_weight_source = "The authors' release (--beta 1e+3) and P1's main branch (ALPHA 1000)"

    def __init__(self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: ATOptions) -> None:
        """Choose the stages; see `Method`.

        Raises:
            InputError: If skipping the first stage leaves none.
        """
        super().__init__(student, teacher, data, options)
        self.num_skipped = num_first_stages_skipped("at", student, skip_first_stage=options.skip_first_stage)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return one term per stage, {"stage1": ...}."""
        first = self.num_skipped
        pairs = zip(student.stages[first:], teacher.stages[first:], strict=True)
        return {f"stage{n}": batch.mean(_distance(*features)) for n, features in enumerate(pairs, start=first + 1)}


def _distance(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    student_BHW, teacher_BHW = pool_to_smaller(activation_map(student_BCHW), activation_map(teacher_BCHW))
    student_BP, teacher_BP = student_BHW.flatten(1), teacher_BHW.flatten(1)
    return (F.normalize(student_BP, dim=1) - F.normalize(teacher_BP, dim=1)).square().mean(dim=1)
