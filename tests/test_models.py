"""Networks of timm with their maps: equal bits, stages, shapes, weights, and what is refused."""

import dataclasses

import pytest
import timm
import torch

from dctkd.errors import InputError
from dctkd.models import StageModel, build_model, describe_stages, evaluating, spec, state_dict_for_export

torch.set_num_threads(1)

NETWORKS = {
    "resnet18": {"drop_rate": 0.2, "drop_path_rate": 0.2},
    "mobilenetv2_100": {"drop_rate": 0.2, "drop_path_rate": 0.2},
    "efficientnet_b0": {"drop_rate": 0.2, "drop_path_rate": 0.2},
    "convnext_atto": {"drop_rate": 0.2, "drop_path_rate": 0.2},
    "vit_tiny_patch16_224": {"img_size": 64, "drop_rate": 0.2, "drop_path_rate": 0.2},
}
TINY = {"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 16]}


def _build(architecture="resnet18", **changes):
    arguments = {"num_classes": 7, "stage_indices": (0, 1), "input_size": 32, "options": TINY}
    return build_model(architecture, **{**arguments, **changes})


def _images(batch_size=4, size=64):
    return torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module", params=NETWORKS)
def model(request):
    options = NETWORKS[request.param]
    count = len(describe_stages(request.param, options))
    torch.manual_seed(0)
    return build_model(request.param, num_classes=7, stage_indices=range(count), input_size=64, options=options)


def _forward(model, run, mode, seed):
    """Logits and the random state after them; BatchNorm's statistics are put back."""
    state = {name: value.clone() for name, value in model.net.state_dict().items()}
    model.train(mode == "train")
    torch.manual_seed(seed)
    with torch.no_grad():
        logits_BK = run(_images())
    model.net.load_state_dict(state)
    return logits_BK, torch.random.get_rng_state()


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_logits_have_the_bits_of_the_plain_network(model, mode):
    plain_BK, plain_state = _forward(model, model.net, mode, seed=1)
    ours_BK, ours_state = _forward(model, lambda images_BCHW: model(images_BCHW).logits_BK, mode, seed=1)
    assert torch.equal(plain_BK, ours_BK)
    assert torch.equal(plain_state, ours_state)


def test_dropout_and_drop_path_are_at_work_in_these_tests(model):
    first_BK, _ = _forward(model, model.net, "train", seed=1)
    second_BK, _ = _forward(model, model.net, "train", seed=2)
    assert not torch.equal(first_BK, second_BK)


def test_maps_are_the_outputs_of_the_named_modules(model):
    seen = {}
    modules = dict(model.net.named_modules())
    hooks = [
        modules[stage.name].register_forward_hook(
            lambda _module, _inputs, output, name=stage.name: seen.update({name: output})
        )
        for stage in model.stages
    ]
    with evaluating(model), torch.no_grad():
        maps = model(_images()).stages
    for hook in hooks:
        hook.remove()
    for stage, map_BCHW in zip(model.stages, maps, strict=True):
        module_output = seen[stage.name]
        if module_output.ndim == 3:  # tokens of a ViT, class token first
            module_output = module_output[:, 1:].transpose(1, 2).reshape(map_BCHW.shape)
        assert torch.equal(map_BCHW, module_output)


@pytest.mark.parametrize("is_new", [False, True])
def test_shapes_of_the_spec_are_those_of_a_forward(model, is_new):
    with evaluating(model), torch.no_grad():
        outputs = model(_images(batch_size=2))
    shapes = spec(StageModel(model.net, [stage.index for stage in model.stages]) if is_new else model, 64)
    assert [dataclasses.astuple(stage) for stage in shapes.stages] == [map_.shape[1:] for map_ in outputs.stages]
    assert (shapes.num_classes, shapes.pooled_dim) == (7, outputs.pooled_BD.shape[1])
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


def test_map_size_is_input_size_over_reduction(model):
    for stage, shape in zip(model.stages, spec(model, 64).stages, strict=True):
        assert (shape.channels, shape.height, shape.width) == (
            stage.channels,
            64 // stage.reduction,
            64 // stage.reduction,
        )


def test_export_is_a_plain_timm_checkpoint(model, request):
    architecture = request.node.callspec.params["model"]
    plain = timm.create_model(architecture, num_classes=7, **NETWORKS[architecture])
    plain.load_state_dict(state_dict_for_export(model), strict=True)
    with evaluating(model), evaluating(plain), torch.no_grad():
        assert torch.equal(plain(_images()), model(_images()).logits_BK)


@pytest.mark.parametrize(
    ("architecture", "options", "expected"),
    [
        ("resnet18", {}, [("layer1", 4, 64), ("layer2", 8, 128), ("layer3", 16, 256), ("layer4", 32, 512)]),
        (
            "mobilenetv2_100",
            {},
            [
                ("blocks.0", 2, 16),
                ("blocks.1", 4, 24),
                ("blocks.2", 8, 32),
                ("blocks.4", 16, 96),
                ("blocks.6", 32, 320),
            ],
        ),
        (
            "efficientnet_b0",
            {},
            [
                ("blocks.0", 2, 16),
                ("blocks.1", 4, 24),
                ("blocks.2", 8, 40),
                ("blocks.4", 16, 112),
                ("blocks.6", 32, 320),
            ],
        ),
        ("resnet18", {"output_stride": 8}, [("layer1", 4, 64), ("layer4", 8, 512)]),
        ("resnet18", TINY, [("layer1", 4, 4), ("layer2", 8, 8), ("layer3", 16, 8), ("layer4", 32, 16)]),
        ("convnext_atto", {}, [("stages.0", 4, 40), ("stages.1", 8, 80), ("stages.2", 16, 160), ("stages.3", 32, 320)]),
    ],
)
def test_stages_leave_out_the_stem_and_keep_the_last_map_at_each_reduction(architecture, options, expected):
    stages = describe_stages(architecture, options)
    assert [(stage.name, stage.reduction, stage.channels) for stage in stages] == expected
    assert [stage.index for stage in stages] == list(range(len(expected)))
    assert {stage.kind for stage in stages} == {"cnn"}


def test_a_vit_has_all_its_blocks_as_stages():
    stages = describe_stages("vit_tiny_patch16_224", {"img_size": 64, "depth": 5})
    assert [(stage.kind, stage.reduction, stage.channels) for stage in stages] == [("vit", 16, 192)] * 5


def test_describing_stages_draws_no_random_numbers():
    before = torch.random.get_rng_state()
    describe_stages("vit_tiny_patch16_224", {"drop_path_rate": 0.1})
    assert torch.equal(before, torch.random.get_rng_state())


def test_checking_a_network_draws_no_random_numbers_and_moves_no_statistics():
    torch.manual_seed(5)
    timm.create_model("resnet18", num_classes=7, layers=(1, 1, 1, 1), channels=(4, 8, 8, 16))
    expected = torch.random.get_rng_state()
    torch.manual_seed(5)
    model = _build()
    assert torch.equal(expected, torch.random.get_rng_state())
    assert model.training
    assert torch.equal(model.net.bn1.running_mean, torch.zeros(64))


def test_stages_come_in_the_order_asked_for_and_may_repeat():
    model = _build(stage_indices=(2, 0, 2))
    with torch.no_grad():
        maps = model(_images(size=32)).stages
    assert [map_.shape[1] for map_ in maps] == [8, 4, 8]
    assert maps[0] is maps[2]


def test_no_stages_leave_logits_and_pooled_features():
    outputs = _build(stage_indices=())(_images(size=32))
    assert outputs.stages == ()
    assert (outputs.logits_BK.shape, outputs.pooled_BD.shape) == ((4, 7), (4, 16))


def test_the_gradient_reaches_every_parameter():
    model = _build()
    outputs = model(_images(size=32))
    (outputs.logits_BK.square().sum() + outputs.stages[0].sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_evaluating_restores_the_mode_of_each_part():
    model = _build()
    model.net.bn1.eval()
    with evaluating(model):
        assert not model.net.layer1.training
    assert model.net.layer1.training
    assert not model.net.bn1.training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "resnet81"}, r"no such architecture; did you mean 'resnet\d+'"),
        ({"architecture": "zzzz"}, r"no such architecture; timm.list_models\(\)"),
        ({"architecture": "hf-hub:timm/resnet18"}, "no such architecture"),
        ({"architecture": "resnet18.a1_in2k"}, r"no pretrained weights of that name and tag; did you mean .*a1_in1k"),
        ({"options": {"layer": [1, 1, 1, 1]}}, "unexpected keyword argument 'layer'"),
        ({"options": {"layers": "many"}}, "timm cannot build it with options"),
        ({"options": {"layers": [1, 1]}}, "cannot take images of 32 x 32"),
        ({"options": {"num_classes": 3}}, "num_classes is not an option: it is the number of classes of the data"),
        ({"options": {**TINY, "global_pool": ""}}, "cannot take images of 32 x 32"),
        ({"stage_indices": (4,)}, r"stages \[4\] do not exist"),
        ({"stage_indices": (-1,)}, r"stages \[-1\] do not exist"),
        ({"num_classes": 0}, "expected at least 1"),
        ({"architecture": "vit_tiny_patch16_224", "options": {"depth": 1}, "stage_indices": ()}, "img_size for a ViT"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        _build(**changes)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_network_without_intermediates_is_refused(monkeypatch):
    monkeypatch.delattr(timm.models.resnet.ResNet, "forward_intermediates")
    with pytest.raises(InputError, match="resnet18: timm's ResNet has no forward_intermediates"):
        describe_stages("resnet18")


def test_a_head_of_two_classifiers_is_refused():
    with pytest.raises(InputError, match="no single classifier layer"):
        _build("deit_tiny_distilled_patch16_224", options={"img_size": 32, "depth": 1})


def test_a_head_that_computes_something_after_the_classifier_is_refused(monkeypatch):
    plain = timm.models.resnet.ResNet.forward
    monkeypatch.setattr(timm.models.resnet.ResNet, "forward", lambda net, images: 2 * plain(net, images))
    with pytest.raises(InputError, match="do not give the network's logits"):
        _build()


def test_a_stage_model_wraps_any_network_of_timm():
    net = timm.create_model("resnet18", num_classes=3, layers=(1, 1, 1, 1), channels=(4, 8, 8, 16))
    assert [stage.name for stage in StageModel(net, [3]).stages] == ["layer4"]
