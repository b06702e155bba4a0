"""The peers' networks: torchvision's, with the weights of timm's, so that all jobs compute the same functions.

That every key of timm's weights fits (`strict`) shows that the architectures are equal.
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from torch import nn
from torchvision import models

STUDENT, TEACHER = "resnet18", "resnet50"
NUM_CLASSES = 100
WEIGHTS = {STUDENT: "student.pt", TEACHER: "teacher.pt"}


def write_weights(folder: Path, num_classes: int = NUM_CLASSES) -> None:
    """Draw both networks' weights with timm and store them in the folder."""
    torch.manual_seed(0)
    for name, file in WEIGHTS.items():
        torch.save({"model": timm.create_model(name, num_classes=num_classes).state_dict()}, folder / file)


def load_networks(folder: Path, num_classes: int = NUM_CLASSES) -> tuple[nn.Module, nn.Module]:
    """Return torchvision's student and teacher with those weights."""
    student, teacher = (models.get_model(name, num_classes=num_classes) for name in WEIGHTS)
    for net, file in ((student, WEIGHTS[STUDENT]), (teacher, WEIGHTS[TEACHER])):
        net.load_state_dict(torch.load(folder / file, weights_only=True)["model"], strict=True)
    return student, teacher
