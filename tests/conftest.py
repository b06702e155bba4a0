"""What holds for every test: one torch thread, and GPU tests only where there is a GPU."""

import copy
import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items):
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


TINY = {
    "experiment": "tiny",
    "title": "A tiny experiment",
    "datasets": {
        "shapes": {
            "format": "synthscenes",
            "options": {"num_train_images": 50, "num_test_images": 24, "image_side": 36},
            "input": {"crop": 32, "hflip": False},
        }
    },
    "models": {
        "wide": {"architecture": "resnet18", "options": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}},
        "narrow": {"architecture": "resnet18", "options": {"layers": [1, 1, 1, 1], "channels": [4, 4, 8, 8]}},
    },
    "pairs": [{"teacher": "wide", "student": "narrow"}],
    "methods": {"baseline": None, "kd": None, "at": None},
    "recipes": {
        "short": {
            "epochs": 2,
            "batch_size": 16,
            "optimiser": {"name": "sgd", "lr": 0.05},
            "schedule": {"name": "cosine", "warmup_epochs": 0.5},
        }
    },
    "student_recipe": "short",
    "teacher_recipe": "short",
    "seeds": [0],
}


@pytest.fixture
def tiny():
    """A valid experiment that trains in about a second, as the mapping that YAML would give; change it at will."""
    return copy.deepcopy(TINY)
