"""Relational knowledge distillation: distances and angles between the pooled features of a batch.

Paper: Park, Kim, Lu and Cho, "Relational Knowledge Distillation", CVPR 2019, arXiv:1904.05068, sections 3.2.1
(distance) and 3.2.2 (angle).
Reference code, with the loss of the authors:
https://github.com/HobbitLong/RepDistiller/blob/1e2f81692647991a80a1e97ffa14e2af915eaa6f/distiller_zoo/RKD.py
https://github.com/lenscloth/RKD/blob/21fae208ea58a60f8e273e6eeadad195e97284c2/metric/loss.py

Differences from the paper: the paper sums over pairs and triplets of different samples; here, as in both codes, all
B * B and B * B * B entries are averaged, those that are 0 by definition included. The paper's angle has its vertex
at the second sample of a triplet. In the codes, and here, the vertex is the first index of the (B, B, B) tensor,
the batch index of the product: e[i, j] = (f_j - f_i) / |f_j - f_i| and cosine[i, j, k] = e[i, j] . e[i, k]. That
renames the indices; the mean is the same. The vertex i is the anchor that a sample weight belongs to; for distances
it is the row.
Differences from the code: distances come from differences, not from the Gram matrix with a floor of 1e-12 on the
squares. Equal samples are therefore 0 apart (1e-6 there), stay out of the mean distance, and have no direction and
gradient 0 (1e12 times too much there). A batch of one, or of equal samples, gives 0; the codes give NaN for a batch
of one.

Shapes: B images, D pooled features.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from dctkd.functional.relations import angle_relation_per_anchor, distance_relation_per_anchor
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.options import MethodOptions
from dctkd.models import ModelSpec, Outputs


class RKDOptions(MethodOptions):
    """Options of rkd."""

    distance_weight: float = Field(
        25.0,
        ge=0,
        description="weight of the distances within the loss, no unit; RepDistiller: 25 (RKD.py, w_d)",
    )
    angle_weight: float = Field(
        50.0,
        ge=0,
        description="weight of the angles within the loss, no unit; RepDistiller: 50 (RKD.py, w_a)",
    )


class RKD(Method):
    """Huber losses of the scaled distances between samples and of the cosines at every sample, weighted and added."""

    Options = RKDOptions
    title = "RKD"
    paper = "Park, Kim, Lu and Cho: Relational Knowledge Distillation. CVPR 2019, arXiv:1904.05068."
    year = 2019
    features = "pooled"
    default_weight = 1.0
    default_weight_source = "RepDistiller: -b 1 (scripts/run_cifar_distill.sh); the weights 25 and 50 are options"
    needs_whole_batch = True

    def __init__(self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: RKDOptions) -> None:
        """Keep the weights of the two terms; see `Method`."""
        super().__init__(student, teacher, data, options)
        self.distance_weight = options.distance_weight
        self.angle_weight = options.angle_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return {"distance": ..., "angle": ...}, each times its weight."""
        pooled = (student.pooled_BD, teacher.pooled_BD)
        return {
            "distance": self.distance_weight * batch.mean(distance_relation_per_anchor(*pooled)),
            "angle": self.angle_weight * batch.mean(angle_relation_per_anchor(*pooled)),
        }
