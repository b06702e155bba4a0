"""What is found out about networks with timm."""

import pytest

from dctkd import weights
from dctkd.doctor.networks import describe
from dctkd.doctor.torch_process import ask_networks

RESNET = {
    "name": "a/b", "architecture": "resnet18", "options": {"layers": [1, 1, 1, 1]}, "num_classes": 12,
    "pretrained": False, "weights": None, "frozen_stages": None, "crop": 64,
}  # fmt: skip


def test_parameters_are_those_of_the_network_that_is_trained():
    import timm

    net = timm.create_model("resnet18", layers=(1, 1, 1, 1), num_classes=12)
    wanted = sum(parameter.numel() for parameter in net.parameters())
    assert describe(RESNET) == {"parameters": wanted, "pretrained": None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "resnet8"}, "timm has no such architecture"),
        ({"options": {"layer": [1]}}, "timm cannot build it"),
        ({"frozen_stages": 5}, "ResNet has 4 stages (layer1, layer2, layer3, layer4); freeze at most as many"),
        ({"weights": "nowhere.safetensors"}, "there is no such file"),
        ({"architecture": "resnet18.no_tag", "pretrained": True, "options": {}}, "no pretrained weights"),
    ],
)
def test_what_does_not_fit_is_an_error_of_one_line(change, words):
    assert words in describe({**RESNET, **change})["error"]


@pytest.mark.parametrize(
    ("is_cached", "is_online", "where"),
    [(True, False, "cached"), (False, True, "reachable"), (False, False, "unreachable")],
)
def test_pretrained_weights_are_looked_for_and_not_fetched(monkeypatch, tmp_path, is_cached, is_online, where):
    monkeypatch.setattr(weights, "_cached_file", lambda _: tmp_path if is_cached else None)
    monkeypatch.setattr(weights, "_is_online", lambda _: is_online)
    monkeypatch.setattr(weights, "_download", lambda _: pytest.fail("fetched"))
    model = {**RESNET, "architecture": "resnet18.tv_in1k", "options": {}, "pretrained": True}
    assert describe(model)["pretrained"] == where


def test_another_process_says_the_same(tmp_path, monkeypatch):
    (tmp_path / "dctkd").mkdir()
    (tmp_path / "dctkd/__init__.py").write_text("raise RuntimeError('the package of the working folder')")
    monkeypatch.chdir(tmp_path)
    assert ask_networks([RESNET]) == {"a/b": describe(RESNET)}
