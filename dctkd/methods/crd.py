"""Contrastive representation distillation: tell an image's embedding from those of many others.

Paper: Tian, Krishnan and Isola, "Contrastive Representation Distillation", ICLR 2020, arXiv:1910.10699, equations 11
and 18.
Reference code:
https://github.com/HobbitLong/RepDistiller/tree/1e2f81692647991a80a1e97ffa14e2af915eaa6f/crd

Student and teacher embed their pooled features linearly on the unit sphere. Two memories hold the last embeddings of
every training image, as a running mean. Each network's embedding is compared with the other's memory: with the image's
own entry (the positive) and with `num_negatives` entries of images of other classes (noise-contrastive estimation).

Differences from the paper: those of the code: negatives of other classes only, a memory, a normalising constant that is
set once, from the first batch.
Differences from the code: negatives are drawn on the device, with replacement, in every step (the code draws them on
the CPU for each sample, without replacement where it can). The loss and the constants' estimate are the same. With
`release_negatives` the negatives come from the first `num_classes` training images alone, a slip in P1's release
(SceneRecognitionDatasetCRD.py, line 133, loops over classes where images are meant).

Shapes: B images, N training images, D embedding, M negatives, K classes.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd.errors import InputError
from dctkd.functional.contrast import contrastive_loss_per_sample, draw_other_classes, similarity_to_memory
from dctkd.functional.precision import widen
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.options import MethodOptions
from dctkd.models import ModelSpec, Outputs


class CRDOptions(MethodOptions):
    """Options of crd; the defaults are the authors' (RepDistiller, train_student.py)."""

    embedding_dim: int = Field(128, ge=1, description="components of an embedding; authors and P1: 128")
    num_negatives: int = Field(16384, ge=1, description="negatives per image and step; authors and P1: 16384")
    temperature: float = Field(0.07, gt=0, description="tau in the paper, no unit; authors and P1: 0.07")
    momentum: float = Field(
        0.5, ge=0, lt=1, description="weight of the old entry when a memory is renewed, no unit; authors and P1: 0.5"
    )
    release_negatives: bool = Field(
        False,
        description="negatives from the first num_classes training images only, as in P1's release; for the audit",
    )


class CRD(Method):
    """NCE of the student's embedding against the teacher's memory, plus NCE of the teacher's against the student's."""

    Options = CRDOptions
    title = "CRD"
    paper = "Tian, Krishnan and Isola: Contrastive Representation Distillation. ICLR 2020, arXiv:1910.10699."
    year = 2020
    features = "pooled"
    default_weight = 0.8
    default_weight_source = "The authors' release (RepDistiller, -b 0.8) and P1's release (ALPHA 0.8)"
    needs_whole_batch = True

    student_memory_ND: Tensor
    teacher_memory_ND: Tensor
    constants_2: Tensor
    order_N: Tensor
    first_K: Tensor
    count_K: Tensor

    def __init__(self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: CRDOptions) -> None:
        """Make embeddings and memories; see `Method`.

        Raises:
            InputError: If some class would have no image of another class to be told from.
        """
        super().__init__(student, teacher, data, options)
        self.num_negatives, self.temperature = options.num_negatives, options.temperature
        self.momentum = options.momentum
        self.embed_student = nn.Linear(student.pooled_dim, options.embedding_dim)
        self.embed_teacher = nn.Linear(teacher.pooled_dim, options.embedding_dim)
        bound = 1.0 / math.sqrt(options.embedding_dim / 3.0)  # An entry's expected squared length is 1.
        for name in ("student_memory_ND", "teacher_memory_ND"):
            memory_ND = torch.empty(data.num_train_images, options.embedding_dim).uniform_(-bound, bound)
            self.register_buffer(name, memory_ND)
        self.register_buffer("constants_2", torch.zeros(2))
        num_candidates = min(data.num_classes, len(data.labels)) if options.release_negatives else len(data.labels)
        labels = torch.tensor(data.labels[:num_candidates], dtype=torch.int64)
        count_K = torch.bincount(labels, minlength=data.num_classes)
        if int(count_K.max()) == num_candidates:
            raise InputError(
                f"CRD needs images of at least two classes to draw negatives from; its {num_candidates} candidates all "
                f"have label {int(count_K.argmax())}"
            )
        # Derived from the data, so not part of a checkpoint.
        self.register_buffer("order_N", torch.argsort(labels, stable=True), persistent=False)
        self.register_buffer("count_K", count_K, persistent=False)
        self.register_buffer("first_K", count_K.cumsum(0) - count_K, persistent=False)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return {"student": ..., "teacher": ...}: whose embedding is told from the other's memory."""
        student_BD = F.normalize(widen(self.embed_student(student.pooled_BD)), dim=1)
        teacher_BD = F.normalize(widen(self.embed_teacher(teacher.pooled_BD)), dim=1)
        negatives_BM = draw_other_classes(
            batch.target_B, self.order_N, self.first_K, self.count_K, num_draws=self.num_negatives
        )
        chosen_BM = torch.cat([batch.index_B.unsqueeze(1), negatives_BM], dim=1)
        losses = {
            "student": self._loss(student_BD, self.teacher_memory_ND, chosen_BM, constant=0),
            "teacher": self._loss(teacher_BD, self.student_memory_ND, chosen_BM, constant=1),
        }
        self.student_memory_ND = self._renewed(self.student_memory_ND, batch.index_B, student_BD.detach())
        self.teacher_memory_ND = self._renewed(self.teacher_memory_ND, batch.index_B, teacher_BD.detach())
        return {name: batch.mean(loss_B) for name, loss_B in losses.items()}

    def _loss(self, embedding_BD: Tensor, memory_ND: Tensor, chosen_BM: Tensor, *, constant: int) -> Tensor:
        similarity_BM = similarity_to_memory(embedding_BD, memory_ND, chosen_BM, temperature=self.temperature)
        with torch.no_grad():  # The first batch sets the normalising constant; later ones leave it alone.
            old = self.constants_2[constant]
            self.constants_2[constant] = torch.where(old > 0, old, similarity_BM.mean() * len(memory_ND))
        probability_BM = similarity_BM / self.constants_2[constant].clone()
        return contrastive_loss_per_sample(
            probability_BM, num_noise_samples=self.num_negatives, memory_size=len(memory_ND)
        )

    def _renewed(self, memory_ND: Tensor, index_B: Tensor, embedding_BD: Tensor) -> Tensor:
        """Return a new memory: the backward pass of this step still reads the old one."""
        mixed_BD = self.momentum * memory_ND[index_B] + (1.0 - self.momentum) * embedding_BD.to(memory_ND.dtype)
        return memory_ND.index_copy(0, index_B, F.normalize(mixed_BD, dim=1))
