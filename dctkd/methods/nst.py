"""Neuron selectivity transfer: match the set of a stage's channel maps.

Paper: Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", arXiv:1707.01219
(2017), section 4, polynomial kernel with d = 2 and c = 0.
Reference code:
https://github.com/HobbitLong/RepDistiller/blob/1e2f81692647991a80a1e97ffa14e2af915eaa6f/distiller_zoo/NST.py
https://github.com/TuSimple/neuron-selectivity-transfer/blob/db33064988f4eeefff8f4129eb48e63da15899e5/symbol/transfer.py

Differences from the paper: the paper adds lambda / 2 times the discrepancy to the cross-entropy, with lambda = 50;
here, as in both codes, 50 times the whole discrepancy is added, twice as much. The authors' code compares the last
stage only; here, as in RepDistiller, all stages count, with one term each.
Differences from the code: k(t, t) + k(s, s) - 2 k(s, t) as in RepDistiller (the authors' code leaves out the
constant k(t, t)), but without a tensor of shape (C, C', P): the kernels come from matrix products, or, at stages
with fewer positions than channels, from the equal distance between (P, P) matrices. Along each side the smaller
size is met, so non-square maps work. RepDistiller's `[1:-1]` leaves out the stem and the pooled features, which are
no stages here.

Shapes: B images, C channels, H rows, W columns, P = H W positions.
"""

from __future__ import annotations

from torch import Tensor

from dctkd.functional.attention import pool_to_smaller
from dctkd.functional.channels import channel_discrepancy_per_sample
from dctkd.functional.precision import widen
from dctkd.methods.base import Batch, Method
from dctkd.models import Outputs


class NST(Method):
    """Sum over stages of the squared MMD, kernel (x . y)^2, between the unit channel maps of an image."""

    title = "NST"
    paper = "Huang and Wang: Knowledge Distill via Neuron Selectivity Transfer. arXiv:1707.01219, 2017."
    year = 2017
    features = "stages"
    default_weight = 50.0
    default_weight_source = "The authors' release (config/cfgs.py, kt_weight 50) and RepDistiller (-b 50)"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return one term per stage, {"stage1": ...}."""
        pairs = zip(student.stages, teacher.stages, strict=True)
        return {f"stage{n}": batch.mean(_discrepancy(*features)) for n, features in enumerate(pairs, start=1)}


def _discrepancy(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    # Widened first: the average that pools the larger map is taken in float32.
    student_BCHW, teacher_BCHW = pool_to_smaller(widen(student_BCHW), widen(teacher_BCHW))
    return channel_discrepancy_per_sample(student_BCHW.flatten(2), teacher_BCHW.flatten(2))
