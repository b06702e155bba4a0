"""Between two looks no step asks the device for a number: on a GPU the host would wait for all that is queued."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from dctkd.data.batches import train_batches
from dctkd.data.cache import PixelCache
from dctkd.data.resident import ResidentSource
from dctkd.engine import pack
from dctkd.engine import train as training
from dctkd.engine.learner import GPU_LOOK_EVERY_STEPS
from dctkd.engine.objective import Objective
from dctkd.functional import dct
from dctkd.identity import MethodIdentity
from dctkd.methods import METHODS, create
from dctkd.methods.base import Batch
from dctkd.methods.contract_trial import BATCH_SIZE, DATA, PAIRS
from dctkd.models import Outputs

aten = torch.ops.aten
SYNCING = {
    aten._local_scalar_dense, aten.is_nonzero, aten.nonzero, aten.masked_select, aten.equal, aten.allclose,
    aten.bincount, aten.histc, aten._unique, aten._unique2, aten.unique_dim, aten.unique_consecutive,
}  # fmt: skip
"""Operators whose result the host must see to go on."""


class Watch(TorchDispatchMode):
    """Note operators that stop the host: numbers read, sizes that depend on values, copies between devices."""

    def __init__(self):
        super().__init__()
        self.stops = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet in SYNCING or (packet is aten.repeat_interleave and isinstance(args[0], torch.Tensor)):
            self.stops.append(str(func))
        if packet in (aten.index, aten.index_put, aten.index_put_) and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        ):
            self.stops.append(f"{func} with a mask")
        result = func(*args, **kwargs)
        if packet in (aten._to_copy, aten.copy_, aten.copy) and is_between_devices(func, args, kwargs):
            self.stops.append(f"{func} between devices")
        return result


def is_between_devices(func, args, kwargs):
    if func.overloadpacket is aten._to_copy:
        return kwargs.get("device") is not None and torch.device(kwargs["device"]).type != args[0].device.type
    return args[0].device.type != args[1].device.type


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda x: x.sum().item(), 1),
        (lambda x: bool((x > 0).any()), 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: torch.repeat_interleave(torch.tensor([1, 2])), 1),
        (lambda x: torch.where(x > 0, x, 0.0).sum(), 0),
        (lambda x: x[torch.tensor([0])], 0),
    ],
)
def test_the_watch_sees_what_stops_the_host(ask, expected):
    x = torch.ones(2, 3)
    with Watch() as watch:
        ask(x)
    assert len(watch.stops) == expected, watch.stops


def test_no_step_between_two_looks_reads_a_number(make_experiment, tiny, monkeypatch):
    tiny["methods"] = {name: None for name in METHODS} | {"dct+kd": None, "crd+kd": None}
    tiny["recipes"]["short"] |= {"clip_grad_norm": 1.0, "teacher_correct_only": True, "label_smoothing": 0.1}
    tiny["models"]["narrow"]["options"] |= {"drop_rate": 0.1, "drop_path_rate": 0.1}
    experiment = make_experiment(tiny).prepare()
    stops, shape, step = {}, pack.LoopShape, training._step

    def watched(group, batch, teacher):
        number = group[0].step
        with Watch() as watch:
            step(group, batch, teacher)
        stops[number] = watch.stops

    monkeypatch.setattr(pack, "LoopShape", lambda *args: replace(shape(*args), look_every_steps=GPU_LOOK_EVERY_STEPS))
    monkeypatch.setattr(training, "_step", watched)
    experiment.train()
    assert {number for number, found in stops.items() if found} == {0, 3, 7}  # the first, and the last of each epoch
    assert set(stops) == set(range(8))


def test_resident_pixels_become_batches_without_a_number_read(make_experiment, tiny):
    experiment = make_experiment(tiny).prepare_data()
    cache = PixelCache.open(next(experiment.results.glob("cache/*/fingerprint.json")).parent)
    recipe = experiment.plan.config.datasets["shapes"].input
    source = ResidentSource(cache, recipe, torch.device("cpu"))
    drawn = train_batches(cache, recipe, seed=0, epoch=0, batch_size=16, source=source)
    next(drawn)  # uploads the split and the table of the epoch
    with Watch() as watch:
        assert len(list(drawn)) == 3
    assert watch.stops == []


@pytest.fixture
def fake_gpu():
    """Tensors that say they are on a GPU and hold nothing: reading one raises, mixing devices too."""
    yield FakeTensorMode(allow_non_fake_inputs=True)
    dct.cosine_basis.cache_clear()


def on_gpu(tensor):
    return tensor.detach().to("cuda").requires_grad_(tensor.requires_grad)


def move(module):
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(on_gpu(parameter))
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = on_gpu(buffer)


def random_outputs(spec):
    stages = tuple(torch.rand(BATCH_SIZE, s.channels, s.height, s.width, device="cuda") for s in spec.stages)
    logits_BK = torch.randn(BATCH_SIZE, spec.num_classes, device="cuda")
    return Outputs(logits_BK, stages, torch.rand(BATCH_SIZE, spec.pooled_dim, device="cuda"))


def identity_of(name):
    return MethodIdentity(
        method=name, options={}, weight=1.0, warmup_epochs=0.0, ce=1.0, teacher_correct_only=True, kd_weight=1.0,
        kd_temperature=4.0, kd_teacher_correct_only=True, results_version=1, source_sha256=None,
    )  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_a_loss_on_a_gpu_stays_there(fake_gpu, name):
    pair = next(pair for pair in PAIRS if pair.name == "vit__resnet")  # maps of two sizes
    method = create(name, pair.student, pair.teacher, DATA)
    objective = Objective(identity_of(name), method, label_smoothing=0.1)
    with fake_gpu:
        move(objective)
        student, teacher = random_outputs(pair.student), random_outputs(pair.teacher)
        index_B = torch.arange(BATCH_SIZE, device="cuda")
        batch = Batch(torch.zeros(BATCH_SIZE, 3, 8, 8, device="cuda"), index_B % 5, index_B, 0, 0.0)
        objective(student, teacher, batch, ramp=1.0)  # constants reach the device once
        with Watch() as watch:
            terms = objective(student, teacher, batch, ramp=1.0)
    assert watch.stops == []
    assert {terms.total.device.type, *(term.device.type for term in terms.named.values())} == {"cuda"}


def test_the_fake_gpu_tells_reads_and_copies(fake_gpu):
    with fake_gpu, pytest.raises(DataDependentOutputException):
        torch.ones(1, device="cuda").item()
    with fake_gpu, Watch() as watch:
        torch.ones(1).to("cuda")
        torch.ones(1, device="cuda").cpu()
        torch.ones(1, device="cuda").copy_(torch.ones(1))
        torch.tensor([1.0, 2.0], device="cuda")
    assert len(watch.stops) == 4
