"""FitNets: a projection of one student stage regresses the teacher's.

Paper: Romero, Ballas, Kahou, Chassang, Gatta and Bengio, "FitNets: Hints for Thin Deep Nets", ICLR 2015,
arXiv:1412.6550, equation 3.
Reference code:
https://github.com/HobbitLong/RepDistiller/blob/1e2f81692647991a80a1e97ffa14e2af915eaa6f/distiller_zoo/FitNet.py
with the projection ConvReg of models/util.py.

Differences from the paper: the squared difference is averaged over channels and positions, where equation 3 has half
its sum; the weight stands for the scale. The hint is learned together with the labels, as in the code, where the
paper first trains the lower half of the student on the hint alone. The projection is a 1x1 convolution with batch
normalisation and a ReLU; the paper's has a kernel that closes the gap between the two sizes, and no normalisation.
Differences from the code: where sizes differ the larger features are pooled to the smaller and the projection stays a
1x1 convolution; ConvReg takes a 3x3 convolution of stride 2, a transposed 4x4 convolution or a large kernel,
depending on the two sizes, and adds a bias that the normalisation cancels. Along each side the smaller size is met,
so non-square maps work. The batch normalisation of the projection takes its statistics over the images it is given,
as the student's own layers do.

Shapes: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from dctkd.errors import InputError
from dctkd.functional.attention import pool_to_smaller
from dctkd.functional.distances import mean_squared_error_per_sample
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.layers import conv_norm
from dctkd.methods.options import MethodOptions
from dctkd.models import ModelSpec, Outputs


class FitNetsOptions(MethodOptions):
    """Options of fitnets."""

    stage: int | None = Field(
        None,
        ge=1,
        description="which of the paired stages is the hint, counted from 1; null: the second, or the last if there "
        "are fewer (RepDistiller: --hint_layer 2, where 0 is the stem)",
    )
    relu: bool = Field(
        True,
        description="whether a ReLU ends the projection, as in RepDistiller; the paper asks for the teacher's own "
        "non-linearity: set false for maps with negative values (ViT, ConvNeXt, MobileNetV2)",
    )


class FitNets(Method):
    """Mean over channels and positions of (r(F_s) - F_t)^2 at one stage, r a trained projection."""

    Options = FitNetsOptions
    title = "FitNets"
    paper = (
        "Romero, Ballas, Kahou, Chassang, Gatta and Bengio: FitNets: Hints for Thin Deep Nets. ICLR 2015, "
        "arXiv:1412.6550."
    )
    year = 2015
    features = "stages"
    default_weight = 100.0
    default_weight_source = "RepDistiller, scripts/run_cifar_distill.sh: --distill hint -a 0 -b 100"

    def __init__(self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: FitNetsOptions) -> None:
        """Create the projection; see `Method`.

        Raises:
            InputError: If the stage does not exist.
        """
        super().__init__(student, teacher, data, options)
        num_stages = len(student.stages)
        self.stage = min(2, num_stages) if options.stage is None else options.stage
        if self.stage > num_stages:
            raise InputError(
                f"fitnets: stage must be among the paired stages, 1 to {num_stages}, got {self.stage}; change stage, "
                "or pairs.stages in the experiment file"
            )
        student_stage, teacher_stage = student.stages[self.stage - 1], teacher.stages[self.stage - 1]
        self.projection = conv_norm(student_stage.channels, teacher_stage.channels, kernel_size=1, relu=options.relu)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return one term, named after the stage: {"stage2": ...}."""
        at = self.stage - 1
        student_BCHW, teacher_BCHW = pool_to_smaller(student.stages[at], teacher.stages[at])
        error_B = mean_squared_error_per_sample(self.projection(student_BCHW), teacher_BCHW)
        return {f"stage{self.stage}": batch.mean(error_B)}
