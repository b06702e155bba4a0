"""What a pack is counted to take of the memory, what a job may take, and how a pack is cut where that is too little."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from dctkd.engine import footprint, pack
from dctkd.engine.footprint import Room, granted_bytes, teacher_bytes
from dctkd.engine.learner import Learner
from dctkd.models import ModelSpec, StageSpec, build_model

CPU = torch.device("cpu")
GIB = 2**30


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 10), nn.Sigmoid(), nn.Linear(10, 2))

    def forward(self, images):
        return self.layers(images)


def test_maps_of_a_hand_worked_network_are_counted():
    images, after_sigmoid = 8 * 48 * 4, 8 * 10 * 4
    assert footprint.map_bytes(Flat(), 8, 4) == images + after_sigmoid


NETWORKS = [
    ("resnet18", 64, {}),
    ("mobilenetv2_050", 64, {}),
    ("convnext_atto", 64, {}),
    ("vit_tiny_patch16_224", 64, {"img_size": 64, "depth": 2}),
    ("swin_tiny_patch4_window7_224", 224, {"depths": (1, 1, 1, 1), "embed_dim": 24}),
]


@pytest.mark.parametrize(("architecture", "size", "options"), NETWORKS)
def test_a_forward_without_numbers_keeps_as_many_bytes_as_a_real_one(architecture, size, options):
    model = build_model(architecture, num_classes=5, stage_indices=[1], input_size=size, options=options).train()
    weights = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
    saved = {}

    def keep(tensor):
        saved.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.randn(2, 3, size, size))
    really = sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in weights)
    # Attention without numbers takes the path that keeps its scores: at most a quarter more than the fused one.
    assert really <= footprint.map_bytes(model, 2, size) <= 1.25 * really


def test_counting_changes_nothing_of_the_network():
    model = build_model("resnet18", num_classes=5, stage_indices=[0], input_size=32).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    footprint.map_bytes(model, 4, 32)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_a_teacher_takes_its_weights_and_the_maps_of_one_batch():
    spec = ModelSpec(num_classes=2, stages=(StageSpec(3, 4, 5), StageSpec(7, 1, 1)), pooled_dim=7)
    assert teacher_bytes(nn.Linear(10, 3), spec, images=16) == 4 * 33 + 4 * 16 * (60 + 7)


def machine(monkeypatch, *, total, available, cores, in_groups=None):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=total, available=available))
    monkeypatch.setattr(footprint.os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(footprint, "free_memory_bytes", lambda _: in_groups)


@pytest.mark.parametrize(
    ("threads", "available", "in_groups", "granted"),
    [
        (1, 30 * GIB, None, 8 * GIB),  # a quarter of the cores: a quarter of the memory
        (2, 30 * GIB, None, 16 * GIB),
        (8, 30 * GIB, None, 30 * GIB),  # more threads than cores: no more than there is
        (1, 5 * GIB, None, 5 * GIB),
        (1, 30 * GIB, 3 * GIB, 3 * GIB),  # a batch system grants less
    ],
)
def test_a_job_may_take_the_share_of_its_cores_and_no_more_than_is_free(
    monkeypatch, threads, available, in_groups, granted
):
    machine(monkeypatch, total=32 * GIB, available=available, cores=4, in_groups=in_groups)
    assert granted_bytes(CPU, threads) == granted


def test_room_ends_where_steps_and_what_is_kept_do_not_fit(monkeypatch):
    monkeypatch.setattr(footprint, "step_bytes", lambda _: 100)
    monkeypatch.setattr(footprint, "kept_bytes", lambda kept: kept)
    room = Room(1_000, shared=250)  # 150 for the step, 600 are left
    assert [room.takes(kept) for kept in (200, 300, 101, 100)] == [True, True, False, True]


def test_the_first_student_is_always_taken(monkeypatch):
    monkeypatch.setattr(footprint, "step_bytes", lambda _: 100)
    monkeypatch.setattr(footprint, "kept_bytes", lambda kept: kept)
    room = Room(10, shared=5)
    assert [room.takes(kept) for kept in (1, 1)] == [True, False]


@pytest.fixture
def reference(make_experiment, tiny):
    tiny["methods"] = dict.fromkeys(["baseline", "kd", "at", "dct", "fitnets"])
    return make_experiment(tiny, "reference").prepare().train()


@pytest.mark.parametrize(("pixels", "granted"), [(0, 25), (20, 45)])
def test_a_pack_that_would_not_fit_is_cut_before_it_is_trained_and_gives_the_same_bits(
    make_experiment, reference, monkeypatch, pixels, granted
):
    experiment = make_experiment(reference.raw, "cut").prepare()
    trained = []
    train = pack.train

    def noted(learners, *args, **keywords):
        trained.append([learner.name.split("/")[-3] for learner in learners])
        train(learners, *args, **keywords)

    monkeypatch.setattr(pack, "train", noted)
    monkeypatch.setattr(footprint, "step_bytes", lambda _: 0)
    monkeypatch.setattr(footprint, "kept_bytes", lambda _: 10)
    monkeypatch.setattr(pack, "teacher_bytes", lambda *_, **__: 5)
    monkeypatch.setattr(pack.Stream, "resident_bytes", pixels)
    monkeypatch.setattr(pack, "granted_bytes", lambda *_: granted)
    experiment.train()
    assert trained == [["baseline", "kd"], ["at", "dct"], ["fitnets"]]
    assert experiment.bits() == reference.bits()


def test_a_student_that_is_left_alone_by_the_cut_and_still_does_not_fit_is_a_result(
    make_experiment, reference, monkeypatch
):
    experiment = make_experiment(reference.raw, "alone").prepare()
    monkeypatch.setattr(footprint, "step_bytes", lambda _: 10)
    monkeypatch.setattr(pack, "granted_bytes", lambda *_: 0)
    add_gradient = Learner.add_gradient

    def lack(self, *args, **keywords):
        if "/at/" in self.name:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        add_gradient(self, *args, **keywords)

    monkeypatch.setattr(Learner, "add_gradient", lack)
    experiment.train()
    statuses = {row: experiment.metrics(row)["status"] for row in experiment.raw["methods"]}
    assert statuses == {"baseline": "ok", "kd": "ok", "at": "oom", "dct": "ok", "fitnets": "ok"}


PEAK = """
import sys, torch
from dctkd.engine.allocator import keep_freed_memory
from dctkd.engine.footprint import map_bytes
from dctkd.models import build_model

torch.set_num_threads(1)
keep_freed_memory()
images = torch.randn(16, 3, 128, 128).contiguous(memory_format=torch.channels_last)
models = [build_model("resnet18", num_classes=10, stage_indices=[0], input_size=128) for _ in range(int(sys.argv[1]))]
models = [model.to(memory_format=torch.channels_last).train() for model in models]
optimisers = [torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9) for model in models]

def peak():  # of this program: the system's own figure begins with what the process had before it was started
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before = peak()
for _ in range(2):
    for model, optimiser in zip(models, optimisers):
        model(images).logits_BK.square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
weights = sum(parameter.nbytes for parameter in models[0].parameters())
counted = len(models) * weights + weights + map_bytes(models[0], 16, 128)  # momentum, gradients, maps
print((peak() - before) / counted)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of a process in /proc")
def test_the_peak_of_a_process_is_what_is_counted_within_the_margin():
    done = subprocess.run([sys.executable, "-c", PEAK, "4"], capture_output=True, text=True, check=True)
    assert 0.5 < float(done.stdout) < footprint.SAFETY
