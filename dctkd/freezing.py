"""Freezing the first stages of a network with all that comes before them (`frozen_stages` of a recipe).

What comes before is told by the gradient and not by a module's place among its siblings: a parameter is frozen if a
stage's map depends on it. So a stem, position embeddings or a class token are frozen with the first stage, and nothing
deeper is, whatever a network calls its parts. Only parameters are frozen. A network in training is in training mode as
a whole, so running statistics of batch normalisation move in frozen stages too, as in P1's released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from dctkd.errors import InputError
from dctkd.models import StageModel, evaluating, stages_in
from dctkd.timm_networks import TIMM_ERRORS, sketch_network
from dctkd.weights import describe_error


def freeze_first_stages(model: StageModel, num_stages: int, *, input_size: int) -> None:
    """Let the parameters of the first stages, and of what comes before them, be constants.

    Args:
        model: The network, changed in place.
        num_stages: How many stages, from the shallowest on, as `dctkd.models.describe_stages` counts them.
        input_size: Side of the square images, in pixels.

    Raises:
        InputError: As `parameters_up_to`.
    """
    frozen = parameters_up_to(model.net, num_stages, input_size=input_size)
    for name, parameter in model.net.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)


def require_freezable(architecture: str, options: Mapping[str, Any], num_stages: int, *, input_size: int) -> None:
    """Refuse to freeze stages that a network does not have, without allocating its weights.

    Raises:
        InputError: As `parameters_up_to`, or if timm cannot build the network.
    """
    parameters_up_to(sketch_network(architecture, options), num_stages, input_size=input_size)


def parameters_up_to(net: nn.Module, num_stages: int, *, input_size: int) -> frozenset[str]:
    """Return the names of the parameters on which the map of a stage depends, found out without computing any numbers.

    Args:
        net: Network of timm, on any device.
        num_stages: The stage's position, from 1.
        input_size: Side of the square images, in pixels.

    Raises:
        InputError: If the network has fewer stages, or cannot be run without numbers.
    """
    stages = stages_in(net)
    if num_stages > len(stages):
        names = ", ".join(stage.name for stage in stages)
        raise InputError(
            f"{num_stages} stages cannot be frozen: {type(net).__name__} has {len(stages)} stages ({names}); freeze at "
            "most as many"
        )
    model = StageModel(net, [num_stages - 1])
    weights = {name: tensor.detach().to("meta").requires_grad_() for name, tensor in model.named_parameters()}
    buffers = {name: tensor.to("meta") for name, tensor in model.named_buffers()}
    try:
        with evaluating(model), torch.enable_grad(), torch.device("meta"):
            map_BCHW = functional_call(model, weights | buffers, (torch.empty(1, 3, input_size, input_size),)).stages[0]
            gradients = torch.autograd.grad(map_BCHW.sum(), list(weights.values()), allow_unused=True)
    except TIMM_ERRORS as error:
        raise InputError(
            f"what comes before {stages[num_stages - 1].name} of {type(net).__name__} cannot be told "
            f"({describe_error(error)}); remove frozen_stages, or take another network"
        ) from error
    reached = zip(weights, gradients, strict=True)
    return frozenset(name.removeprefix("net.") for name, gradient in reached if gradient is not None)
