"""Distillation from a stronger teacher: match correlations of probabilities instead of the probabilities.

Paper: Huang, You, Wang, Qian and Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022,
arXiv:2205.10536: the inter-class relation compares the classes of one image (a row of the matrix of probabilities),
the intra-class relation the images of one class (a column).
Reference code: https://github.com/hunto/image_classification_sota/blob/main/lib/models/losses/dist_kd.py

Differences from the paper: both terms are multiplied by the squared temperature, as the code does (its first
release, 2bc48324cd03c6d85a36ca2b94e9f9878b2ff55f, has no temperature).
Differences from the code: none in the value for two or more images of weight 1. As there, 1e-8 is added to the
product of the two norms; so a class whose centred probabilities have a norm over the batch far below 1e-4 counts as
uncorrelated and adds nearly 1 to the intra term's mean. A batch of one image has no variation: its intra term is 0
here, 1 there.
Sample weights: an image's inter loss is weighted as usual. The intra correlations are taken with the weights as in a
weighted Pearson coefficient, and the intra term is multiplied by the mean weight; it is 0 where fewer than two images
have a weight above 0.

Shapes: B images, K classes.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from dctkd.functional.logits import correlation_per_row, standardise_logits
from dctkd.functional.precision import widen
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.options import MethodOptions
from dctkd.models import ModelSpec, Outputs


class DISTOptions(MethodOptions):
    """Options of dist."""

    beta: float = Field(
        1.0,
        ge=0,
        description="weight of the relation between the classes of an image (inter; beta in the paper), no unit; the "
        "authors' release: 1",
    )
    gamma: float = Field(
        1.0,
        ge=0,
        description="weight of the relation between the images of a class (intra; gamma in the paper), no unit; the "
        "authors' release: 1",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="softmax temperature (tau in the code), no unit; the authors' release: 1 on ImageNet, 4 on CIFAR",
    )
    standardise: bool = Field(
        False,
        description="whether each sample's logits, of both networks, are first brought to mean 0 and standard "
        "deviation 1 (Sun et al. 2024, arXiv:2403.01427, whose code does not offer it for dist)",
    )


class DIST(Method):
    """T^2 (beta (1 - Pearson of each image's probabilities) + gamma (1 - Pearson of each class's over the batch))."""

    Options = DISTOptions
    title = "DIST"
    paper = (
        "Huang, You, Wang, Qian and Xu: Knowledge Distillation from A Stronger Teacher. NeurIPS 2022, arXiv:2205.10536."
    )
    year = 2022
    features = "logits"
    default_weight = 2.0
    default_weight_source = "The authors' release: --kd-loss-weight 2 with 1 on the cross-entropy"
    default_ce = 1.0
    needs_whole_batch = True

    def __init__(self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: DISTOptions) -> None:
        """Keep the settings; see `Method`."""
        super().__init__(student, teacher, data, options)
        self.beta, self.gamma = options.beta, options.gamma
        self.temperature, self.standardise = options.temperature, options.standardise

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return {"inter": beta T^2 (1 - Pearson of rows), "intra": gamma T^2 (1 - Pearson of columns)}."""
        student_BK, teacher_BK = (self._probabilities(network.logits_BK) for network in (student, teacher))
        inter_B = 1.0 - correlation_per_row(student_BK, teacher_BK)
        ones_B = torch.ones_like(batch.target_B, dtype=torch.float32)
        weight_B = ones_B if batch.sample_weight_B is None else batch.sample_weight_B
        intra = (1.0 - correlation_per_row(student_BK.T, teacher_BK.T, weight_B)).mean()
        has_two_images = (weight_B > 0).sum() > 1
        return {
            "inter": self.beta * self.temperature**2 * batch.mean(inter_B),
            "intra": self.gamma * self.temperature**2 * batch.mean(ones_B) * has_two_images * intra,
        }

    def _probabilities(self, logits_BK: Tensor) -> Tensor:
        if self.standardise:
            logits_BK = standardise_logits(logits_BK)
        return torch.softmax(widen(logits_BK) / self.temperature, dim=1)
