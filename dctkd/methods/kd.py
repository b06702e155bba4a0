"""Knowledge distillation on logits.

Paper: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531 (2015), section 2.
Reference code:
https://github.com/HobbitLong/RepDistiller/blob/1e2f81692647991a80a1e97ffa14e2af915eaa6f/distiller_zoo/KD.py

Differences from the paper: none in the loss; the paper gives no weights for images.
Differences from the code: none in the value. Both log-softmaxes are taken in float32 or wider whatever the logits'
dtype.

Shapes: B images, K classes.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from dctkd.functional.logits import kl_per_sample
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.options import MethodOptions
from dctkd.models import ModelSpec, Outputs


class KDOptions(MethodOptions):
    """Options of kd."""

    temperature: float = Field(
        4.0,
        gt=0,
        description="softmax temperature (tau in the paper), no unit; P1: 4 (Config/Distillation/config_KD.yaml)",
    )


class KD(Method):
    """Mean over the batch of T^2 KL(softmax(teacher / T) || softmax(student / T))."""

    Options = KDOptions
    title = "KD"
    paper = "Hinton, Vinyals and Dean: Distilling the Knowledge in a Neural Network. arXiv:1503.02531, 2015."
    year = 2015
    features = "logits"
    default_weight = 0.8
    default_weight_source = (
        "P1's release: ALPHA 0.8 with BETA 0.1 on the cross-entropy (config_KD.yaml and Run_Train.sh)"
    )
    default_ce = 0.1

    def __init__(self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: KDOptions) -> None:
        """Keep the temperature; see `Method`."""
        super().__init__(student, teacher, data, options)
        self.temperature = options.temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return {"kl": T^2 KL(teacher || student)}."""
        return {"kl": batch.mean(kl_per_sample(student.logits_BK, teacher.logits_BK, temperature=self.temperature))}
