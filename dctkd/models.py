"""Models of timm that return logits, stage maps and pooled features in one forward, without hooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dctkd.errors import InputError
from dctkd.timm_networks import NO_OPTIONS, TIMM_ERRORS, create_network, sketch_network
from dctkd.weights import (
    describe_error,
    fit_classifier,
    load_exactly,
    pretrained_config,
    pretrained_sha256,
    read_weights,
    require_classifier,
    resolve_pretrained,
    with_classifier_of,
)

__all__ = [
    "ModelSpec",
    "Outputs",
    "StageInfo",
    "StageModel",
    "StageSpec",
    "build_model",
    "describe_stages",
    "evaluating",
    "pretrained_sha256",
    "resolve_pretrained",
    "spec",
    "state_dict_for_export",
]

# Shape legend: B images, C channels, H and W positions, K classes, D pooled features.


@dataclass(frozen=True)
class StageSpec:
    """Shape of one stage's feature map: channels, height and width in positions."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class ModelSpec:
    """What a method needs to know of a network: number of classes, paired stages, width of the pooled features."""

    num_classes: int
    stages: tuple[StageSpec, ...]
    pooled_dim: int


@dataclass(frozen=True)
class Outputs:
    """What one forward returns.

    Attributes:
        logits_BK: Class scores, shape (B, K).
        stages: Feature maps at the paired depths, after activation, stem excluded, each of shape (B, C, H, W).
        pooled_BD: Pooled features that feed the classifier, shape (B, D); after dropout, if the network has some there.
    """

    logits_BK: Tensor
    stages: tuple[Tensor, ...]
    pooled_BD: Tensor


@dataclass(frozen=True)
class StageInfo:
    """One depth of a network at which it gives a feature map.

    Attributes:
        index: Position among the network's stages, from 0, stem not counted: what configs and plans mean by a stage.
        name: Module of timm whose output it is.
        reduction: Input pixels per map position, along one side.
        channels: Channels of the map.
        kind: "vit" if all maps have one size (ViT, Mixer), else "cnn" (also the hierarchical Swin, PVT).
        feature_index: Position in timm's feature_info, stem included.
    """

    index: int
    name: str
    reduction: int
    channels: int
    kind: Literal["cnn", "vit"]
    feature_index: int


class StageModel(nn.Module):
    """A network of timm whose forward returns `Outputs`.

    The logits have the same bits as those of the plain network, in training too: the same layers run in the same order
    on the same random numbers. The plain network is the attribute `net`.

    Args:
        net: Network of timm with `forward_intermediates`.
        stage_indices: Positions among its stages (`StageInfo.index`), in the order in which `Outputs.stages` shall have
            them; repeats are allowed, and none at all gives logits and pooled features only.

    Raises:
        InputError: If the network has no such stage.
    """

    def __init__(self, net: nn.Module, stage_indices: Sequence[int]) -> None:
        super().__init__()
        stages = stages_in(net)
        outside = [index for index in stage_indices if not 0 <= index < len(stages)]
        if outside:
            raise InputError(f"stages {outside} do not exist: {type(net).__name__} has 0 to {len(stages) - 1}, no stem")
        self.net = net
        self.stages = tuple(stages[index] for index in stage_indices)
        # forward_intermediates returns each map once, shallow to deep, and refuses an empty list.
        self._taps = sorted({stage.feature_index for stage in self.stages} or {stages[-1].feature_index})
        self._order = [self._taps.index(stage.feature_index) for stage in self.stages]
        self._specs: dict[int, ModelSpec] = {}

    def forward(self, images_BCHW: Tensor) -> Outputs:
        """Return logits, stage maps and pooled features of images of shape (B, 3, H, W)."""
        net: Any = self.net
        final, maps = net.forward_intermediates(images_BCHW, indices=self._taps, output_fmt="NCHW")
        pooled_BD = net.forward_head(final, pre_logits=True)
        logits_BK = net.get_classifier()(pooled_BD)
        return Outputs(logits_BK, tuple(maps[position] for position in self._order), pooled_BD)


def describe_stages(architecture: str, options: Mapping[str, Any] = NO_OPTIONS) -> tuple[StageInfo, ...]:
    """Return the stages of a network, shallow to deep, without allocating its weights.

    The stem is no stage: ResNet's act1 at reduction 2 is left out; MobileNetV2's blocks.0 at reduction 2 is kept,
    because timm counts it as a stage. Of several maps at one reduction the last counts; a network whose maps all have
    one size (ViT) keeps all its blocks.

    Args:
        architecture: timm name, with or without a tag.
        options: Arguments of timm.create_model, such as `layers`, `channels`, `img_size`; lists become tuples.

    Raises:
        InputError: If timm does not know the name or an option, or the network cannot return its feature maps.
    """
    return stages_in(sketch_network(architecture, options), architecture)


def batch_norm_of(architecture: str, options: Mapping[str, Any] = NO_OPTIONS) -> str | None:
    """Return the name of a network's first layer that takes statistics over the batch, or None if it has none.

    Raises:
        InputError: As `describe_stages`.
    """
    return first_batch_norm(sketch_network(architecture, options))


def first_batch_norm(module: nn.Module) -> str | None:
    """Return the name of the first layer that takes statistics over the batch, or None."""
    coupling = nn.modules.batchnorm._BatchNorm
    return next((name for name, layer in module.named_modules() if isinstance(layer, coupling)), None)


def num_parameters(architecture: str, num_classes: int, options: Mapping[str, Any] = NO_OPTIONS) -> int:
    """Return how many parameters a network has, without allocating them; raises as `describe_stages`."""
    net = sketch_network(architecture, options, num_classes=num_classes)
    return sum(parameter.numel() for parameter in net.parameters())


def build_model(
    architecture: str,
    *,
    num_classes: int,
    stage_indices: Sequence[int],
    input_size: int,
    options: Mapping[str, Any] = NO_OPTIONS,
    weights: Path | None = None,
    pretrained: bool = False,
    may_replace_classifier: bool = False,
) -> StageModel:
    """Build a network on the CPU, ready to train.

    Initial weights come from torch's global random state, which moves by the same amount with pretrained weights.

    Args:
        architecture: timm name, with the tag that tells which weights if they are pretrained.
        num_classes: Number of classes of the data.
        stage_indices: Stages whose maps the forward returns (`StageInfo.index`).
        input_size: Side of the square images, in pixels; a forward at that size checks the network.
        options: Arguments of timm.create_model; lists become tuples.
        weights: Local checkpoint of the same architecture and options; every key must fit.
        pretrained: Start from timm's weights. Their classifier is kept if it has as many classes as the data, else new.
        may_replace_classifier: Do the same with a local checkpoint; False refuses one for another number of classes.

    Raises:
        InputError: If anything above does not fit; one line that says what to do.
    """
    if num_classes < 1 or input_size < 1:
        raise InputError(
            f"model {architecture}: {num_classes} classes, {input_size} pixels: expected at least 1 of each"
        )
    if pretrained and weights is not None:
        raise InputError(f"model {architecture}: pretrained and weights exclude each other: remove one")
    net = create_network(architecture, options, num_classes=num_classes)
    stages_in(net, architecture)
    classifier = _classifier_name(net, architecture)
    if pretrained:
        load_exactly(net, _pretrained_state(net, architecture, options, classifier), source=architecture)
    if weights is not None:
        state = read_weights(weights)
        adapt = fit_classifier if may_replace_classifier else require_classifier
        state = adapt(net, state, source=str(weights), classifier=classifier, num_classes=num_classes)
        load_exactly(net, state, source=str(weights))
    model = StageModel(net, stage_indices)
    model._specs[input_size] = _check_forward(model, architecture, input_size=input_size)
    return model


def spec(model: StageModel, input_size: int) -> ModelSpec:
    """Return the shapes that a model gives for square images of `input_size` pixels, without computing any numbers."""
    if input_size not in model._specs:
        meta = {name: tensor.to("meta") for name, tensor in chain(model.named_parameters(), model.named_buffers())}
        images_BCHW = torch.empty(1, 3, input_size, input_size, device="meta")
        with evaluating(model), torch.no_grad():
            model._specs[input_size] = _spec_of(functional_call(model, meta, (images_BCHW,)))
    return model._specs[input_size]


def _spec_of(outputs: Outputs) -> ModelSpec:
    stages = tuple(StageSpec(*map_BCHW.shape[1:]) for map_BCHW in outputs.stages)
    return ModelSpec(num_classes=outputs.logits_BK.shape[1], stages=stages, pooled_dim=outputs.pooled_BD.shape[1])


def state_dict_for_export(model: StageModel) -> dict[str, Tensor]:
    """Return the weights as a plain timm checkpoint, which `timm.create_model(...).load_state_dict` takes."""
    return {name: tensor.detach() for name, tensor in model.net.state_dict().items()}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode for a while, then each of its parts back in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, was_training in modes:
            part.training = was_training


def stages_in(net: nn.Module, architecture: str = "") -> tuple[StageInfo, ...]:
    """Return a network's stages as timm's feature_info tells them; see `describe_stages`."""
    info: list[dict[str, Any]] = list(getattr(net, "feature_info", None) or [])
    if not info or not callable(getattr(net, "forward_intermediates", None)):
        raise InputError(
            f"model {architecture}: timm's {type(net).__name__} has no forward_intermediates, so that its feature maps "
            "cannot be had; choose another architecture"
        )
    table = list(enumerate(info))
    is_vit = len({entry["reduction"] for entry in info}) == 1
    if not is_vit:
        table = [(i, entry) for i, entry in table if entry.get("stage", int(entry["reduction"] >= 4)) > 0]
        table = list({entry["reduction"]: (i, entry) for i, entry in table}.values())
    kind: Literal["cnn", "vit"] = "vit" if is_vit else "cnn"
    return tuple(
        StageInfo(index, entry["module"], int(entry["reduction"]), int(entry["num_chs"]), kind, feature_index)
        for index, (feature_index, entry) in enumerate(table)
    )


def _classifier_name(net: Any, architecture: str) -> str:
    classifier = net.get_classifier() if callable(getattr(net, "get_classifier", None)) else None
    names = [str(name) for name, part in net.named_modules() if part is classifier and name]
    if not names:
        raise InputError(
            f"model {architecture}: timm's {type(net).__name__} has no single classifier layer, so that its head does "
            "not split into pooled features and classifier; choose another architecture"
        )
    return names[0]


def _pretrained_state(
    net: nn.Module, architecture: str, options: Mapping[str, Any], classifier: str
) -> dict[str, Tensor]:
    """Pretrained weights of timm for a network, with the network's own classifier if theirs has other classes."""
    cfg = pretrained_config(architecture)
    overlay = {"file": str(resolve_pretrained(architecture)), "custom_load": cfg.custom_load}
    # timm checks that a file fits only if the classifier may stay, so the file first fills a second network.
    with torch.random.fork_rng(devices=[]):
        donor = create_network(
            architecture, options, num_classes=cfg.num_classes, pretrained=True, pretrained_cfg_overlay=overlay
        )
    if cfg.num_classes == getattr(net, "num_classes", None):
        return donor.state_dict()
    return with_classifier_of(net, donor.state_dict(), classifier)


def _check_forward(model: StageModel, architecture: str, *, input_size: int) -> ModelSpec:
    """One image through the plain network and through ours: equal logits, and maps as feature_info tells them."""
    images_BCHW = torch.linspace(-1.0, 1.0, 3 * input_size * input_size).reshape(1, 3, input_size, input_size)
    with evaluating(model), torch.no_grad():
        try:
            expected_BK = model.net(images_BCHW)
        except TIMM_ERRORS as error:
            raise InputError(
                f"model {architecture}: it cannot take images of {input_size} x {input_size} pixels "
                f"({describe_error(error)}); change the crop, or the options (img_size for a ViT)"
            ) from error
        try:
            outputs = model(images_BCHW)
        except TIMM_ERRORS as error:
            raise InputError(
                f"model {architecture}: its head does not split into pooled features and classifier "
                f"({describe_error(error)}); choose another architecture"
            ) from error
    shapes = [tuple(map_BCHW.shape) for map_BCHW in outputs.stages]
    if any(len(shape) != 4 or shape[1] != stage.channels for shape, stage in zip(shapes, model.stages, strict=True)):
        raise InputError(f"model {architecture}: its maps {shapes} differ from feature_info; choose another")
    is_split = outputs.pooled_BD.ndim == 2 and outputs.logits_BK.shape == expected_BK.shape
    if not is_split or not torch.allclose(outputs.logits_BK, expected_BK, rtol=0.0, atol=0.0, equal_nan=True):
        raise InputError(
            f"model {architecture}: its head does not split: pooled features of shape {tuple(outputs.pooled_BD.shape)} "
            "through the classifier do not give the network's logits; choose another architecture"
        )
    return _spec_of(outputs)
