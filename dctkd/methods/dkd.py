"""Decoupled knowledge distillation: the target class and the other classes apart.

Paper: Zhao, Cui, Song, Qiu and Liang, "Decoupled Knowledge Distillation", CVPR 2022, arXiv:2203.08679, section 3:
KD is TCKD + (1 - p_t) NCKD, with p_t the teacher's probability of the target; DKD is alpha TCKD + beta NCKD.
Reference code:
https://github.com/megvii-research/mdistiller/blob/e8c5bb331e78c9d79a8894ca233caae78531cf7f/mdistiller/distillers/DKD.py

Settings of mdistiller's configurations; alpha is 1 in all of them.
CIFAR-100 (temperature 4, warm-up 20 of 240 epochs): beta 8 for ResNet-32x4 to any student, ResNet-50 to MobileNetV2
and WRN-40-2 to ShuffleNetV1; beta 2 for ResNet-56 to ResNet-20 and ResNet-110 to ResNet-32; beta 6 for WRN to WRN and
VGG-13 to any student. ImageNet (temperature 1, warm-up 1 of 100 epochs): beta 0.5 for ResNet-34 to ResNet-18, 2 for
ResNet-50 to MobileNetV1.

Differences from the paper: none known in the loss.
Differences from the code: log(1 - p_t) is a difference of logsumexps, where the code takes the log of a sum of
probabilities, which can be 0; the target is left out of the other classes exactly, where the code subtracts 1000
from its logit. The code's warm-up factor min(epoch / warm-up, 1), with epochs from 1, moves once per epoch and is
already 1 in ImageNet's first epoch; the engine's rises linearly from 0 within the warm-up.

Shapes: B images, K classes.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from dctkd.errors import InputError
from dctkd.functional.logits import decoupled_kl_per_sample, standardise_logits
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.options import MethodOptions
from dctkd.models import ModelSpec, Outputs


class DKDOptions(MethodOptions):
    """Options of dkd."""

    alpha: float = Field(
        1.0,
        ge=0,
        description="weight of the KL on the target class (alpha in the paper), no unit; mdistiller: 1 for all pairs",
    )
    beta: float = Field(
        8.0,
        ge=0,
        description="weight of the KL among the other classes (beta in the paper), no unit; mdistiller's default is "
        "8 (engine/cfg.py), its pairs take 0.5 to 8",
    )
    temperature: float = Field(
        4.0,
        gt=0,
        description="softmax temperature (T in the paper), no unit; mdistiller: 4 on CIFAR-100, 1 on ImageNet",
    )
    standardise: bool = Field(
        False,
        description="whether each sample's logits, of both networks, are first brought to mean 0 and standard "
        "deviation 1 (Sun et al. 2024, arXiv:2403.01427; their tools/train.py keeps dkd's temperature and, with its "
        "default weight of 9, turns alpha 1 into 9 and beta into 81)",
    )


class DKD(Method):
    """Mean over the batch of T^2 (alpha KL on (p_target, 1 - p_target) + beta KL among the other classes)."""

    Options = DKDOptions
    title = "DKD"
    paper = "Zhao, Cui, Song, Qiu and Liang: Decoupled Knowledge Distillation. CVPR 2022, arXiv:2203.08679."
    year = 2022
    features = "logits"
    default_weight = 1.0
    default_weight_source = "mdistiller: no outer weight besides alpha and beta (distillers/DKD.py)"
    default_ce = 1.0
    default_warmup_epochs = 1.0

    def __init__(self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: DKDOptions) -> None:
        """Keep the settings; see `Method`.

        Raises:
            InputError: If there are fewer than two classes: none is left besides the target.
        """
        super().__init__(student, teacher, data, options)
        if (fewest := min(student.num_classes, teacher.num_classes)) < 2:
            raise InputError(f"DKD separates the target from the other classes and needs at least 2; got {fewest}")
        self.alpha, self.beta = options.alpha, options.beta
        self.temperature, self.standardise = options.temperature, options.standardise

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return {"tckd": alpha T^2 KL on the target class, "nckd": beta T^2 KL among the other classes}."""
        student_BK, teacher_BK = student.logits_BK, teacher.logits_BK
        if self.standardise:
            student_BK, teacher_BK = standardise_logits(student_BK), standardise_logits(teacher_BK)
        target_part_B, other_part_B = decoupled_kl_per_sample(
            student_BK, teacher_BK, batch.target_B, temperature=self.temperature
        )
        return {"tckd": self.alpha * batch.mean(target_part_B), "nckd": self.beta * batch.mean(other_part_B)}
