"""The engine's training step against a bare torch loop on tensors in memory, with all else equal."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import timm
import torch
from torch.nn import functional as F

from benchmarks.ratios import Ratio, interleave, ratio_of_medians
from dctkd.config import InputRecipe, Recipe
from dctkd.data.prepare import prepare
from dctkd.engine.device import Precision
from dctkd.engine.learner import Learner, LoopShape
from dctkd.engine.objective import Objective
from dctkd.engine.stream import Stream
from dctkd.identity import DataIdentity, Identity, ModelIdentity
from dctkd.models import build_model

BATCH_SIZE = 64
NUM_CLASSES = 12
WARMUP_STEPS = 5
CPU = torch.device("cpu")


def measure_step_against_bare_torch(*, num_steps: int, precision: Precision) -> Ratio:
    """Return our step (reading the batch included) over the bare step: ResNet-18, 64 px, batch 64, one thread."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        ours = _our_step(Path(folder) / "cache", precision)
        bare = _bare_step(precision)
        interleave([ours, bare], WARMUP_STEPS)
        seconds = interleave([ours, bare], num_steps)
    value, low, high = ratio_of_medians(*seconds)
    detail = f"ResNet-18, 64 px, batch {BATCH_SIZE}, {num_steps} steps each"
    return Ratio("our training step / bare torch step", value, low, high, at_most=1.05, detail=detail)


def _our_step(folder: Path, precision: Precision):  # noqa: ANN202 (a timed action)
    options = {"num_train_images": 960, "num_test_images": 12, "image_side": 72}
    recipe = Recipe.model_validate(
        {
            "epochs": 100,
            "batch_size": BATCH_SIZE,
            "optimiser": {"name": "sgd", "lr": 0.05},
            "schedule": {"name": "cosine"},
        }
    )
    cache = prepare("synthscenes", options, None, None, "fail", folder, 1)
    inputs = InputRecipe(crop=64)
    stream = Stream(cache, inputs, 0, BATCH_SIZE, recipe.epochs, CPU)
    model = build_model("resnet18", num_classes=NUM_CLASSES, stage_indices=[0, 1, 2, 3], input_size=64)
    model = model.to(memory_format=torch.channels_last)
    data = DataIdentity(format="synthscenes", options=options, input=inputs, on_problem="fail", results_version=1)
    network = ModelIdentity(architecture="resnet18", options={}, pretrained=False, weights_sha256=None)
    identity = Identity(kind="teacher", data=data, model=network, recipe=recipe, seed=0, engine_results_version=1)
    shape = LoopShape(stream.steps_per_epoch, stream.total_steps, CPU, precision)
    learner = Learner("bench", "bench", identity, model, Objective(None, None, label_smoothing=0.0), shape)
    batches = stream.train(0, stream.total_steps)

    def step() -> float:
        started = time.perf_counter()
        learner.train_on(next(batches), None)
        return time.perf_counter() - started

    return step


def _bare_step(precision: Precision):  # noqa: ANN202 (a timed action)
    net = timm.create_model("resnet18", num_classes=NUM_CLASSES).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, foreach=True)
    images = [torch.randn(BATCH_SIZE, 3, 64, 64).contiguous(memory_format=torch.channels_last) for _ in range(4)]
    targets = [torch.arange(BATCH_SIZE) % NUM_CLASSES for _ in range(4)]
    batches = itertools.cycle(zip(images, targets, strict=True))

    def step() -> float:
        started = time.perf_counter()
        images_BCHW, target_B = next(batches)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            logits_BK = net(images_BCHW)
        loss = F.cross_entropy(logits_BK.float(), target_B)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return time.perf_counter() - started

    return step
