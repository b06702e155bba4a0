"""What a job asks of a batch system, minutes and memory, from the sizes of networks and datasets. Imports no torch.

Seconds per image of a network with M multiply-adds and B bytes of maps kept for the backward pass:

    training = 3 M / macs_per_s + B / bytes_per_s

and alike for the forward pass alone with M and other rates. A first request needs no more: a job whose time runs out is
saved and goes on, and a job that fails asks for more at its next attempt.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from dctkd.engine.device import DeviceKind
from dctkd.plan import Plan
from dctkd.provenance import sha256_of, write_atomic
from dctkd.recipe import Recipe

MARGIN = 2.0
"""On the time that the rates say: methods cost something too, and devices differ."""

START_MINUTES = 10.0
"""Asked beside the time of the training, for imports, reading, tests and saving; a node may be slow at these."""

USUAL_MINUTES = 60
"""Asked where sizes are not known: on one machine, where nobody counts."""

USUAL_MB = 4000
PROCESS_MB = {"cpu": 2000, "cuda": 8000}
"""Memory of a process with its libraries and, for a GPU, what its driver keeps on the host."""

MEMORY_MARGIN = 1.5
BYTES_PER_PARAMETER = 4
COPIES_IN_TRAINING = 4
"""Weights, gradient, two states of the optimiser."""


@dataclass(frozen=True)
class Rates:
    """Of one device.

    Attributes:
        training: Multiply-adds per second, and bytes of kept maps per second, in training.
        forward: The same in a forward pass alone.
    """

    training: tuple[float, float]
    forward: tuple[float, float]


RATES: Mapping[DeviceKind, Rates] = {
    "cuda": Rates((33e12, 190e9), (29e12, 840e9)),
    "cpu": Rates((0.12e12, 1.6e9), (0.11e12, 10e9)),
}
"""A GPU and a core. GPU: least squares over ResNet-18, 34, 50, 152 and MobileNetV2 on an RTX 3090 under AMP (timm's
results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv and benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv). Core:
the same networks in bfloat16 at 224 px on an AMD EPYC with AVX512-BF16 (benchmarks/results.md)."""


@dataclass(frozen=True)
class NetworkSize:
    """Size of a network.

    Attributes:
        macs: Multiply-adds of a forward pass on one image.
        parameters: Their number.
        map_bytes: What autograd keeps of the forward pass on one image, in float32.
    """

    macs: int
    parameters: int
    map_bytes: int

    def training_s(self, rates: Rates) -> float:
        """Return the seconds of a training step per image."""
        return 3 * self.macs / rates.training[0] + self.map_bytes / rates.training[1]

    def forward_s(self, rates: Rates) -> float:
        """Return the seconds of a forward pass per image."""
        return self.macs / rates.forward[0] + self.map_bytes / rates.forward[1]


@dataclass(frozen=True)
class Sizes:
    """Of all networks and datasets of an experiment.

    Attributes:
        key: Hash of what they were measured for.
        networks: `<dataset>/<model>` to its size.
        images: Dataset to its number of training and of test images.
    """

    key: str
    networks: Mapping[str, NetworkSize]
    images: Mapping[str, tuple[int, int]]

    @classmethod
    def read(cls, path: Path, *, key: str) -> Self | None:
        """Read what `write` wrote, None if it is missing, torn or for something else."""
        try:
            raw = json.loads(path.read_bytes())
            networks = {name: NetworkSize(**size) for name, size in raw["networks"].items()}
            images = {name: (int(train), int(test)) for name, (train, test) in raw["images"].items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
        return cls(key, networks, images) if raw.get("key") == key else None

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_atomic(path, json.dumps(asdict(self), indent=1) + "\n")


def key_of(plan: Plan) -> str:
    """Return the hash of what sizes depend on: datasets, networks, crops."""
    datasets = {name: plan.data_spec(name) for name in plan.config.datasets}
    networks = {name: model.model_dump(mode="json") for name, model in plan.config.models.items()}
    crops = {name: dataset.input.crop for name, dataset in plan.config.datasets.items()}
    return sha256_of([datasets, networks, crops])


@dataclass(frozen=True)
class Demand:
    """What jobs of an experiment ask for; the usual where sizes are not known.

    Attributes:
        plan: The experiment.
        sizes: Of its networks and datasets, None if they are not known.
        kind: Kind of device that jobs compute on.
    """

    plan: Plan
    sizes: Sizes | None
    kind: DeviceKind

    def teacher_minutes(self, dataset: str, teacher: str, attempt: int = 1) -> int:
        """Return the minutes to ask for a teacher's training."""
        return self._minutes(self._teacher_s(dataset, teacher), attempt)

    def students_minutes(self, dataset: str, pair: tuple[str, str], num_students: int, attempt: int = 1) -> int:
        """Return the minutes to ask for students that one job trains side by side; `pair` is (teacher, student)."""
        return self._minutes(self._students_s(dataset, pair, num_students), attempt)

    def teacher_mb(self, dataset: str, teacher: str, attempt: int = 1) -> int:
        """Return the memory to ask for a teacher's training, in MB."""
        return self._megabytes(dataset, teacher, 1, None, self.plan.config.teacher_recipe, attempt)

    def students_mb(self, dataset: str, pair: tuple[str, str], num_students: int, attempt: int = 1) -> int:
        """Return the memory to ask for students that one job trains side by side, in MB."""
        teacher, student = pair
        return self._megabytes(dataset, student, num_students, teacher, self.plan.config.student_recipe, attempt)

    def students_within(self, hours: float) -> int | None:
        """Return how many students a job can train side by side in so many hours, at least 1; None if not known.

        The slowest dataset and pair counts: all are cut alike.
        """
        if self.sizes is None:
            return None
        rows = range(len(self.plan.config.methods), 1, -1)
        return next((number for number in rows if self._longest_minutes(number) <= 60 * hours), 1)

    def _longest_minutes(self, num_students: int) -> float:
        return max(
            self._uncapped(self._students_s(dataset, (pair.teacher, pair.student), num_students))
            for dataset in self.plan.config.datasets
            for pair in self.plan.config.pairs
        )

    def _teacher_s(self, dataset: str, teacher: str) -> float | None:
        if self.sizes is None:
            return None
        recipe = self.plan.config.recipes[self.plan.config.teacher_recipe]
        seconds, tests_s = self._passes_s(dataset, teacher, recipe)
        return seconds + tests_s

    def _students_s(self, dataset: str, pair: tuple[str, str], num_students: int) -> float | None:
        if self.sizes is None:
            return None
        recipe = self.plan.config.recipes[self.plan.config.student_recipe]
        seconds, tests_s = self._passes_s(dataset, pair[1], recipe)
        teacher_s = self.sizes.networks[f"{dataset}/{pair[0]}"].forward_s(RATES[self.kind]) / self._devices(recipe)
        return teacher_s * self._images(dataset, recipe)[0] * recipe.epochs + num_students * (seconds + tests_s)

    def _images(self, dataset: str, recipe: Recipe) -> tuple[float, float]:
        """Images that are trained on and tested, up to half an image for each class of which some are held out."""
        assert self.sizes is not None
        num_train, num_test = self.sizes.images[dataset]
        num_held_out = num_train * (recipe.held_out_fraction or 0.0)
        return num_train - num_held_out, num_test + num_held_out

    def _passes_s(self, dataset: str, model: str, recipe: Recipe) -> tuple[float, float]:
        """Seconds of all training steps of a network and of all its tests."""
        assert self.sizes is not None
        network, rates = self.sizes.networks[f"{dataset}/{model}"], RATES[self.kind]
        num_train, num_test = self._images(dataset, recipe)
        num_tests = 1 + (recipe.epochs // recipe.evaluate_every_epochs if recipe.evaluate_every_epochs else 0)
        seconds = network.training_s(rates) * num_train * recipe.epochs, network.forward_s(rates) * num_test * num_tests
        return seconds[0] / self._devices(recipe), seconds[1] / self._devices(recipe)

    def _devices(self, recipe: Recipe) -> int:
        """Devices that share a run: GPUs, or cores."""
        return (recipe.processes or 1) * (recipe.threads if self.kind == "cpu" else 1)

    def _minutes(self, seconds: float | None, attempt: int) -> int:
        if seconds is None:
            return USUAL_MINUTES
        minutes = math.ceil(self._uncapped(seconds) * attempt)
        limit = self.plan.config.job_hours
        return minutes if limit is None else max(min(minutes, math.floor(60 * limit)), 1)

    @staticmethod
    def _uncapped(seconds: float | None) -> float:
        return START_MINUTES + MARGIN * (seconds or 0.0) / 60

    def _megabytes(
        self, dataset: str, model: str, number: int, teacher: str | None, recipe_name: str, attempt: int
    ) -> int:
        if self.sizes is None:
            return USUAL_MB
        recipe = self.plan.config.recipes[recipe_name]
        images = min(recipe.micro_batch or recipe.batch_size, recipe.batch_size)
        network = self.sizes.networks[f"{dataset}/{model}"]
        kept = number * COPIES_IN_TRAINING * BYTES_PER_PARAMETER * network.parameters
        if teacher is not None:
            kept += BYTES_PER_PARAMETER * self.sizes.networks[f"{dataset}/{teacher}"].parameters
        maps = network.map_bytes * images if self.kind == "cpu" else 0  # on a GPU they lie in its own memory
        of_each = PROCESS_MB[self.kind] + MEMORY_MARGIN * kept / 1e6
        return math.ceil(((recipe.processes or 1) * of_each + MEMORY_MARGIN * maps / 1e6) * attempt)
