"""Which parameters belong to a network's first stages, and what freezing them does to a network."""

import pytest
import timm
import torch

from dctkd.errors import InputError
from dctkd.freezing import freeze_first_stages, parameters_up_to, require_freezable
from dctkd.models import build_model, describe_stages
from dctkd.timm_networks import sketch_network

torch.set_num_threads(1)

SMALL_SWIN = {"depths": [1, 1, 1, 1], "embed_dim": 24}
SMALL_VIT = {"img_size": 64, "depth": 3}

# Network, options, side in pixels, stages, what is frozen: beginnings of names, read off timm's module definitions.
CASES = [
    ("resnet18", {}, 64, 1, ["conv1.", "bn1.", "layer1."]),
    ("resnet18", {}, 64, 2, ["conv1.", "bn1.", "layer1.", "layer2."]),
    ("resnet18", {}, 64, 4, ["conv1.", "bn1.", "layer"]),
    ("resnet18d", {}, 64, 1, ["conv1.", "bn1.", "layer1."]),  # deep stem: three convolutions
    ("resnet18", {"output_stride": 8}, 64, 2, ["conv1.", "bn1.", "layer"]),  # two stages: layer1, layer4
    ("mobilenetv2_100", {}, 64, 1, ["conv_stem.", "bn1.", "blocks.0."]),
    ("mobilenetv2_100", {}, 64, 4, ["conv_stem.", "bn1.", *(f"blocks.{i}." for i in range(5))]),
    ("mobilenetv2_100", {}, 64, 5, ["conv_stem.", "bn1.", "blocks."]),  # conv_head and bn2 come after the last stage
    ("efficientnet_b0", {}, 64, 2, ["conv_stem.", "bn1.", "blocks.0.", "blocks.1."]),
    ("densenet121", {}, 64, 1, ["features.conv0.", "features.norm0.", "features.denseblock1."]),
    ("vit_tiny_patch16_224", SMALL_VIT, 64, 1, ["cls_token", "pos_embed", "patch_embed.", "blocks.0."]),
    ("vit_tiny_patch16_224", SMALL_VIT, 64, 3, ["cls_token", "pos_embed", "patch_embed.", "blocks."]),
    ("convnext_atto", {}, 64, 1, ["stem.", "stages.0."]),
    ("convnext_atto", {}, 64, 2, ["stem.", "stages.0.", "stages.1."]),
    ("swin_tiny_patch4_window7_224", SMALL_SWIN, 224, 1, ["patch_embed.", "layers.0."]),
    ("swin_tiny_patch4_window7_224", SMALL_SWIN, 224, 2, ["patch_embed.", "layers.0.", "layers.1."]),
    ("pvt_v2_b0", {}, 64, 1, ["patch_embed.", "stages.0."]),
]


def _tiny(num_stages=None, **changes):
    options = {"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 16]}
    model = build_model("resnet18", num_classes=5, stage_indices=(2, 3), input_size=32, options=options, **changes)
    if num_stages is not None:
        freeze_first_stages(model, num_stages, input_size=32)
    return model


@pytest.mark.parametrize(
    ("architecture", "options", "size", "num_stages", "beginnings"), CASES, ids=[f"{c[0]}-{c[3]}" for c in CASES]
)
def test_the_stem_and_the_first_stages_are_frozen_and_nothing_else(architecture, options, size, num_stages, beginnings):
    net = sketch_network(architecture, options)
    expected = {name for name, _ in net.named_parameters() if name.startswith(tuple(beginnings))}
    assert parameters_up_to(net, num_stages, input_size=size) == expected


def test_all_parameters_of_a_stage_s_module_are_frozen_with_it():
    for architecture, options, size, num_stages, _ in CASES:
        net = sketch_network(architecture, options)
        name = describe_stages(architecture, options)[num_stages - 1].name
        inside = {f"{name}.{inner}" for inner, _ in net.get_submodule(name).named_parameters()}
        assert inside <= parameters_up_to(net, num_stages, input_size=size), architecture


def test_a_first_stage_of_mobilenet_is_not_its_first_five_children():
    net = sketch_network("mobilenetv2_100", {})
    by_position = {name for name, _ in torch.nn.Sequential(*list(net.children())[:5]).named_parameters()}
    assert len(by_position) > 100  # what freezing children 0 to 4 would take: every block
    assert len(parameters_up_to(net, 1, input_size=64)) == 3 + 6  # stem: one convolution; blocks.0: two; a norm each


def test_the_classifier_is_left_where_all_stages_are_frozen():
    model = _tiny(4)
    assert [name for name, parameter in model.net.named_parameters() if parameter.requires_grad] == [
        "fc.weight",
        "fc.bias",
    ]


@pytest.mark.parametrize("num_stages", [5, 40])
def test_more_stages_than_there_are_are_refused(num_stages):
    with pytest.raises(InputError, match=r"ResNet has 4 stages \(layer1, layer2, layer3, layer4\); freeze at most as"):
        require_freezable("resnet18", {}, num_stages, input_size=32)


def test_a_network_that_cannot_be_run_without_numbers_is_refused_in_one_line(monkeypatch):
    def reads_a_number(self, images_BCHW, **_):
        return None, [images_BCHW * images_BCHW.sum().item()]

    monkeypatch.setattr(timm.models.resnet.ResNet, "forward_intermediates", reads_a_number)
    with pytest.raises(InputError, match=r"what comes before layer1 of ResNet cannot be told .*remove") as caught:
        require_freezable("resnet18", {}, 1, input_size=32)
    assert "\n" not in str(caught.value)


def test_frozen_weights_get_no_gradient_and_the_others_get_theirs():
    model = _tiny(1)
    outputs = model(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    (outputs.logits_BK.square().sum() + outputs.stages[0].sum()).backward()
    without = {name for name, parameter in model.net.named_parameters() if parameter.grad is None}
    assert without == parameters_up_to(model.net, 1, input_size=32)
    assert without


def test_no_graph_is_built_below_what_is_trained():
    model, whole = _tiny(2), _tiny()
    images_BCHW = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def kept_bytes(network):
        kept = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(id(t), t), lambda t: t):
            network(images_BCHW)
        return sum(tensor.nbytes for tensor in kept.values())

    assert kept_bytes(model) < kept_bytes(whole) / 3


def test_freezing_changes_no_number_and_draws_none():
    model = _tiny()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    freeze_first_stages(model, 2, input_size=32)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.device.type == "cpu" and parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_a_frozen_network_whose_batch_normalisation_is_synchronised_stays_frozen():
    from timm.layers.norm_act import convert_sync_batchnorm

    model = convert_sync_batchnorm(_tiny(1))
    assert isinstance(model.net.bn1, torch.nn.SyncBatchNorm)
    assert not model.net.bn1.weight.requires_grad
    assert model.net.layer2[0].bn1.weight.requires_grad
