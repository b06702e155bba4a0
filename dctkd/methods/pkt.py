"""Probabilistic knowledge transfer: which neighbours a sample would pick within the batch.

Paper: Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018,
arXiv:1803.10837, section 3, with the cosine kernel.
Reference code, the first of which RepDistiller copies:
https://github.com/passalis/probabilistic_kt/blob/bbca0b846bc3edd78b8730c0149337c8dc30c7dc/nn/pkt.py
https://github.com/HobbitLong/RepDistiller/blob/1e2f81692647991a80a1e97ffa14e2af915eaa6f/distiller_zoo/PKT.py

Differences from the paper: as in both codes, a sample may pick itself (the paper leaves it out), 1e-7 is added to
both probabilities in the quotient, and the divergence is averaged over all B * B pairs where the paper sums.
Differences from the code: lengths have no 1e-7 added; features that are all 0 have cosine 0 without gradient (the
square root in the code gives NaN there). A cosine that rounding carries below -1 counts as -1.

The mean over B * B makes the value fall like 1 / B: the default weight belongs to batches of 64 to 128 images. The
anchor of a sample weight is the sample that picks.

Shapes: B images, D pooled features.
"""

from __future__ import annotations

from torch import Tensor

from dctkd.functional.relations import similarity_divergence_per_anchor
from dctkd.methods.base import Batch, Method
from dctkd.models import Outputs


class PKT(Method):
    """Mean over pairs of p log(p / q), p and q the row-normalised (1 + cosine) / 2 of teacher and student."""

    title = "PKT"
    paper = (
        "Passalis and Tefas: Learning Deep Representations with Probabilistic Knowledge Transfer. ECCV 2018, "
        "arXiv:1803.10837."
    )
    year = 2018
    features = "pooled"
    default_weight = 30000.0
    default_weight_source = (
        "RepDistiller: -b 30000 with batches of 64 (scripts/run_cifar_distill.sh); P1's main branch: ALPHA 30000 "
        "with batches of 128"
    )
    needs_whole_batch = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return {"kl": KL(teacher || student) / B}."""
        return {"kl": batch.mean(similarity_divergence_per_anchor(student.pooled_BD, teacher.pooled_BD))}
