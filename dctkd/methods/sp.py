"""Similarity-preserving distillation: which images of a batch have similar feature maps.

Paper: Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, arXiv:1907.09682, section 3.
Reference code:
https://github.com/HobbitLong/RepDistiller/blob/1e2f81692647991a80a1e97ffa14e2af915eaa6f/distiller_zoo/SP.py

Differences from the paper: the paper allows a sum over several pairs of layers; as in RepDistiller's training loop,
only the last stage before pooling is compared.
Differences from the code: an image whose features are all 0 has a row of zeros without gradient (the code
multiplies that gradient by 1e12).

The value falls like 1 / B: the default weight belongs to batches of about 64 images, as in RepDistiller. The anchor
of a sample weight is the row of the similarity matrix. Similarities are compared, not maps, so the sizes of student
and teacher need not agree and nothing is pooled.

Shapes: B images, D = C H W features of the last stage.
"""

from __future__ import annotations

from torch import Tensor

from dctkd.functional.relations import similarity_difference_per_anchor
from dctkd.methods.base import Batch, Method
from dctkd.models import Outputs


class SP(Method):
    """Squared Frobenius distance over B^2 between the Gram matrices of a batch, each row divided by its length."""

    title = "SP"
    paper = "Tung and Mori: Similarity-Preserving Knowledge Distillation. ICCV 2019, arXiv:1907.09682."
    year = 2019
    features = "stages"
    default_weight = 3000.0
    default_weight_source = "RepDistiller: -b 3000 with batches of 64 (scripts/run_cifar_distill.sh)"
    needs_whole_batch = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return {"similarity": ...} of the last pair of stages."""
        student_BD, teacher_BD = student.stages[-1].flatten(1), teacher.stages[-1].flatten(1)
        return {"similarity": batch.mean(similarity_difference_per_anchor(student_BD, teacher_BD))}
