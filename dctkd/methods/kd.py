"""Knowledge distillation on logits.

Paper: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531 (2015), section 2.
Reference code:
https://github.com/HobbitLong/RepDistiller/blob/1e2f81692647991a80a1e97ffa14e2af915eaa6f/distiller_zoo/KD.py
Option `standardise`: Sun, Ren, Li, Wang and Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024,
arXiv:2403.01427. Its code:
https://github.com/sunshangquan/logit-standardization-KD/blob/6083e2de122da0bffe6ff6e1fb25a6a80f6c3464/mdistiller/distillers/KD.py

Differences from the paper: none in the loss; the paper gives no weights for images.
Differences from the code: none in the value. Both log-softmaxes are taken in float32 or wider whatever the logits'
dtype. With `standardise` the standard deviation is the population's; the code of Sun et al. takes the unbiased one,
which is a temperature sqrt(K / (K - 1)) times as high.

Shapes: B images, K classes.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from dctkd.functional.logits import kl_per_sample, standardise_logits
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
    standardise: bool = Field(
        False,
        description="whether each sample's logits, of both networks, are first brought to mean 0 and standard "
        "deviation 1 (Sun et al. 2024, arXiv:2403.01427; their tools/train.py then takes temperature 2 and weight 9)",
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
        """Keep the settings; see `Method`."""
        super().__init__(student, teacher, data, options)
        self.temperature, self.standardise = options.temperature, options.standardise

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return {"kl": T^2 KL(teacher || student)}."""
        student_BK, teacher_BK = student.logits_BK, teacher.logits_BK
        if self.standardise:
            student_BK, teacher_BK = standardise_logits(student_BK), standardise_logits(teacher_BK)
        return {"kl": batch.mean(kl_per_sample(student_BK, teacher_BK, temperature=self.temperature))}
