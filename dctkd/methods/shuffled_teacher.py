"""A control: knowledge distillation on logits, from what the teacher says about another image.

What it is for: kd gives a student two things, the teacher's word on each image, and soft targets as such (a
smoother target, a smaller gradient of the cross-entropy, another learning rate in effect). This control keeps the
second and takes away the first. A method that does not beat it does not use what the teacher says about the image.

Paper: none. The loss is that of Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
arXiv:1503.02531 (2015), section 2, as in kd.
Reference code: none.

Differences from kd: image i of the batch is taught with the teacher's logits on image i - 1, the first one with
those on the last; temperature and weights are the same, so that only the pairing differs. The order of a training
batch is random, so a neighbour is a random other image, without a draw of its own; each teacher output is used
exactly once. The neighbour may have the same label by chance: as often as two random images of the data have. A
batch of one image has no other: its term is 0.

Sample weights follow the image that the student sees, and whose loss it is, not the one that the teacher's logits
belong to. With `teacher_correct_only` the images that count are thus those of kd, also when the teacher is wrong
about the neighbour.

Shapes: B images, K classes.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from dctkd.functional.logits import kl_per_sample, standardise_logits
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.options import MethodOptions
from dctkd.models import ModelSpec, Outputs


class ShuffledOptions(MethodOptions):
    """Options of shuffled_teacher."""

    temperature: float = Field(
        4.0,
        gt=0,
        description="softmax temperature, no unit; 4 as in kd, so that only the pairing differs",
    )
    standardise: bool = Field(
        False,
        description="whether each sample's logits, of both networks, are first brought to mean 0 and standard "
        "deviation 1; as in kd",
    )


class ShuffledTeacher(Method):
    """Mean over the batch of T^2 KL(softmax(teacher on the previous image / T) || softmax(student / T))."""

    Options = ShuffledOptions
    title = "Shuffled teacher"
    paper = "None; a control with the loss of Hinton, Vinyals and Dean, arXiv:1503.02531, 2015."
    year = 2015
    features = "logits"
    default_weight = 0.8
    default_weight_source = "That of kd, so that only the pairing of images and teacher outputs differs"
    default_ce = 0.1
    needs_whole_batch = True
    batch_order_matters = True

    def __init__(self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: ShuffledOptions) -> None:
        """Keep the settings; see `Method`."""
        super().__init__(student, teacher, data, options)
        self.temperature, self.standardise = options.temperature, options.standardise

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return {"kl": T^2 KL(teacher on the previous image || student)}."""
        own_BK, others_BK = student.logits_BK, teacher.logits_BK.roll(1, dims=0)
        if self.standardise:
            own_BK, others_BK = standardise_logits(own_BK), standardise_logits(others_BK)
        divergence_B = kl_per_sample(own_BK, others_BK, temperature=self.temperature)
        if len(divergence_B) == 1:  # The only image is its own neighbour; 0 keeps the graph for the backward pass.
            divergence_B = torch.zeros_like(divergence_B) * divergence_B
        return {"kl": batch.mean(divergence_B)}
