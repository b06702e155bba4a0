"""Costs against counts by hand and against what torch itself stores."""

import copy
import logging
from functools import partial

import pytest
import torch
from torch import nn

from dctkd.errors import InputError
from dctkd.methods.base import Method
from dctkd.methods.options import MethodOptions
from dctkd.metrics.cost import _macs_of_batch, checkpoint_bytes, count_parameters, measure_method, measure_model
from dctkd.models import ModelSpec, StageSpec, build_model

torch.set_num_threads(1)

STUDENT = ModelSpec(num_classes=5, stages=(StageSpec(4, 8, 8), StageSpec(6, 4, 4)), pooled_dim=6)
TEACHER = ModelSpec(num_classes=5, stages=(StageSpec(8, 8, 8), StageSpec(12, 4, 4)), pooled_dim=12)


def _vit(depth=2):
    return build_model(
        "vit_tiny_patch16_224",
        num_classes=5,
        stage_indices=(0,),
        input_size=32,
        options={"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": depth, "mlp_ratio": 2},
    )


def test_one_convolution_by_hand():
    # 5 x 5 positions, each 8 filters of 3 * 3 * 3 weights.
    net = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    cost = measure_model(net, input_size=9)
    assert cost.macs == 5 * 5 * 8 * 3 * 3 * 3
    assert cost.flops == 2 * cost.macs
    assert cost.parameters == 8 * 3 * 3 * 3 + 8
    assert cost.ignored_ops == {}


@pytest.mark.parametrize("is_fused", [True, False])
def test_a_vit_by_hand_counts_attention_whether_fused_or_not(is_fused):
    model = _vit()
    for part in model.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = is_fused
    tokens, width = 16 + 1, 24
    embed = 16 * width * 3 * 8 * 8
    linear = tokens * width * (3 * width + width + 2 * width + 2 * width)  # qkv, projection, both layers of the MLP
    attention = 2 * tokens * tokens * width  # queries times keys, weights times values, over all heads
    norm = 5 * tokens * width  # fvcore's estimate for a layer norm
    cost = measure_model(model, input_size=32)
    assert cost.macs == embed + 2 * (linear + attention + 2 * norm) + norm + width * 5
    assert not any("matmul" in op or "attention" in op for op in cost.ignored_ops)


def test_resnet18_costs_what_the_paper_of_its_authors_says():
    # He et al. 2016 (arXiv:1512.03385, table 1): 1.8e9 multiply-adds; torchvision documents 11,689,512 parameters.
    model = build_model("resnet18", num_classes=1000, stage_indices=(), input_size=224)
    cost = measure_model(model, input_size=224)
    assert cost.macs == pytest.approx(1.8e9, rel=0.02)
    assert cost.parameters == 11_689_512
    assert set(cost.ignored_ops) <= {"aten::add_", "aten::max_pool2d", "aten::relu_"}


def test_the_mode_of_the_model_does_not_matter():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert measure_model(model.train(), input_size=9) == measure_model(model.eval(), input_size=9)


def test_measuring_leaves_the_model_as_it_is(caplog):
    model = _vit(depth=1).train()
    before = copy.deepcopy(model.state_dict())
    random_state = torch.random.get_rng_state()
    with caplog.at_level(logging.WARNING):
        measure_model(model, input_size=32)
    assert all(part.training for part in model.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(random_state, torch.random.get_rng_state())
    assert caplog.records == []


def test_a_network_that_cannot_be_traced_is_refused():
    class Picky(nn.Module):
        def forward(self, images_BCHW):
            raise RuntimeError("no")

    with pytest.raises(InputError, match="Picky: its MACs cannot be counted"):
        measure_model(Picky(), input_size=8)


class _Projects(Method):
    title, paper, year, features, default_weight, default_weight_source = "P", "", 2020, "stages", 1.0, "here"

    def __init__(self, student, teacher):
        super().__init__(student, teacher, None, MethodOptions())
        self.layers = nn.ModuleList(
            nn.Conv2d(s.channels, t.channels, 1, bias=False)
            for s, t in zip(student.stages, teacher.stages, strict=True)
        )
        self.norm = nn.BatchNorm1d(student.pooled_dim)

    def forward(self, student, teacher, batch):
        assert self.training
        assert torch.is_grad_enabled()
        self.norm(student.pooled_BD)
        torch.rand(1)
        distances_B = [
            (layer(s) - t).square().mean(dim=(1, 2, 3))
            for layer, s, t in zip(self.layers, student.stages, teacher.stages, strict=True)
        ]
        return {"first": batch.mean(distances_B[0]), "second": batch.mean(distances_B[1])}


class _Relates(Method):
    title, paper, year, features, default_weight, default_weight_source = "R", "", 2020, "pooled", 1.0, "here"
    needs_whole_batch = True

    def __init__(self):
        super().__init__(STUDENT, TEACHER, None, MethodOptions())

    def forward(self, student, teacher, batch):
        return {"relation": (student.pooled_BD @ student.pooled_BD.T).mean()}


class _Basis(_Relates):
    def forward(self, student, teacher, batch):
        return {"basis": (torch.eye(8) @ student.stages[0].mean(dim=1)).mean()}


class _Nothing(_Relates):
    def forward(self, student, teacher, batch):
        return {}


class _Untraceable(_Relates):
    def forward(self, student, teacher, batch):
        raise RuntimeError("data-dependent\nsecond line")


def test_a_projecting_method_by_hand():
    cost = measure_method(_Projects(STUDENT, TEACHER), STUDENT, TEACHER, input_size=32, batch_size=3)
    norm = 5 * 6  # fvcore's estimate for a BatchNorm that trains: 5 per element
    assert cost.extra_parameters == 4 * 8 + 6 * 12 + 2 * 6
    assert cost.extra_macs == 8 * 8 * 4 * 8 + 4 * 4 * 6 * 12 + norm
    assert cost.reason is None


def test_a_method_that_compares_images_costs_more_per_image_in_larger_batches():
    costs = [measure_method(_Relates(), STUDENT, TEACHER, input_size=32, batch_size=size) for size in (2, 8)]
    assert [cost.extra_macs for cost in costs] == [2 * 6, 8 * 6]
    assert [cost.batch_size for cost in costs] == [2, 8]


class _Cubes(_Relates):
    def forward(self, student, teacher, batch):
        pooled_BD = student.pooled_BD
        return {"cubes": torch.einsum("id,jd,kd->ijk", pooled_BD, pooled_BD, pooled_BD).mean()}


@pytest.mark.parametrize("method", [_Relates, _Cubes])
def test_a_large_batch_costs_what_its_own_count_says(monkeypatch, method):
    from_small = measure_method(method(), STUDENT, TEACHER, input_size=32, batch_size=40)
    monkeypatch.setattr("dctkd.metrics.cost.SMALL_BATCHES", (40, 40, 40, 40))
    assert from_small == measure_method(method(), STUDENT, TEACHER, input_size=32, batch_size=40)


def test_a_large_batch_is_run_only_where_small_ones_do_not_tell_its_count():
    sizes = []

    def count(degree, size):
        sizes.append(size)
        return size**degree, {}

    assert _macs_of_batch(partial(count, 2), 1000) == (1000**2, {})
    assert max(sizes) == 16
    assert _macs_of_batch(partial(count, 3), 1000) == (1000**3, {})
    assert max(sizes) == 1000


def test_a_product_whose_first_factor_is_shared_counts_every_image():
    assert measure_method(_Basis(), STUDENT, TEACHER, input_size=32, batch_size=3).extra_macs == 8 * 8 * 8


def test_a_method_without_terms_costs_nothing():
    cost = measure_method(_Nothing(), STUDENT, TEACHER, input_size=32, batch_size=2)
    assert (cost.extra_macs, cost.extra_parameters, cost.ignored_ops) == (0, 0, {})


def test_a_method_that_cannot_be_traced_has_no_count_but_a_reason():
    record = measure_method(_Untraceable(), STUDENT, TEACHER, input_size=32, batch_size=2).to_dict()
    assert record["extra_macs"] is None
    assert record["extra_macs_reason"] == "RuntimeError: data-dependent second line"


def test_measuring_leaves_method_and_random_state_as_they_are():
    method = _Projects(STUDENT, TEACHER).eval()
    before = copy.deepcopy(method.state_dict())
    random_state = torch.random.get_rng_state()
    measure_method(method, STUDENT, TEACHER, input_size=32, batch_size=3)
    assert not method.training
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert torch.equal(random_state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("make", "buffers"),
    [
        (lambda parameters: torch.optim.SGD(parameters, lr=0.1), 0),
        (lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9), 1),
        (lambda parameters: torch.optim.AdamW(parameters, lr=0.1), 2),
    ],
)
def test_checkpoint_bytes_are_those_of_the_three_states(make, buffers):
    student, method = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), _Projects(STUDENT, TEACHER)
    parameters = [*student.parameters(), *method.parameters()]
    optimizer = make(parameters)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    per_parameter = [tensor for state in optimizer.state_dict()["state"].values() for tensor in state.values()]
    tensors = [*student.state_dict().values(), *method.state_dict().values()]
    tensors += [tensor for tensor in per_parameter if torch.is_tensor(tensor) and tensor.ndim > 0]  # not step counters
    expected = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
    assert checkpoint_bytes(student, method, optimizer_buffers=buffers) == expected


def test_frozen_parameters_need_no_optimiser_state():
    student = nn.Linear(2, 2).requires_grad_(False)
    assert checkpoint_bytes(student, None, optimizer_buffers=2) == 4 * count_parameters(student)
