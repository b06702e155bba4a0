"""Networks as timm makes them: by name and options, with one line where that cannot be done."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from dctkd.errors import InputError, did_you_mean
from dctkd.weights import describe_error, pretrained_config

if TYPE_CHECKING:
    from torch import nn

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})

RESERVED_OPTIONS = MappingProxyType(
    {
        "num_classes": "it is the number of classes of the data",
        "pretrained": "set `pretrained` of the model",
        "checkpoint_path": "set `weights` of the model",
        "in_chans": "images have three channels",
        "features_only": "the classifier is needed",
        "pretrained_cfg": "name the tag in `architecture`",
        "pretrained_cfg_overlay": "name the tag in `architecture`",
        "pretrained_strict": "every key of a weight file must fit",
        "pretrained_filter_fn": "weights are loaded as they are",
        "pretrained_model_args": "name the tag in `architecture`",
        "cache_dir": "set HF_HOME in the environment",
        "model_cls": "name the network in `architecture`",
        "model_cfg": "name the network in `architecture`",
        "variant": "name the network in `architecture`",
        "feature_cfg": "the classifier is needed",
        "kwargs_filter": "every option must be used",
        "pruned": "name a pruned network in `architecture`",
        "scriptable": "layers are timm's own",
        "exportable": "layers are timm's own",
        "no_jit": "layers are timm's own",
        "device": "set `device` of the experiment",
        "dtype": "set `precision` of the recipe",
    }
)
"""Arguments of timm.create_model that are not options, each with what to do instead."""

TIMM_ERRORS = (TypeError, ValueError, RuntimeError, AssertionError, AttributeError, LookupError, ArithmeticError)
"""What timm raises for arguments that it cannot use."""


def sketch_network(architecture: str, options: Mapping[str, Any], **arguments: Any) -> nn.Module:
    """Return a network whose tensors have shapes but no numbers, without drawing any; raises as `create_network`."""
    with torch.device("meta"):
        return create_network(architecture, options, **arguments)


def create_network(architecture: str, options: Mapping[str, Any], **arguments: Any) -> nn.Module:
    """Return a network of timm, its weights drawn from torch's global random state.

    Args:
        architecture: timm name, with or without a tag.
        options: Arguments of timm.create_model that an experiment may set; lists become tuples.
        arguments: Further ones, which it may not.

    Raises:
        InputError: If timm does not know the name or an option.
    """
    import timm

    _check_name(architecture)
    reserved = sorted(RESERVED_OPTIONS.keys() & options.keys())
    if reserved:
        raise InputError(f"model {architecture}: {reserved[0]} is not an option: {RESERVED_OPTIONS[reserved[0]]}")
    keywords = {key: _as_tuples(value) for key, value in options.items()}
    try:
        net: nn.Module = timm.create_model(architecture, **keywords, **arguments)
    except TIMM_ERRORS as error:
        raise InputError(
            f"model {architecture}: timm cannot build it with options {dict(options)} ({describe_error(error)}); "
            "options are arguments of timm.create_model"
        ) from error
    return net


def _check_name(architecture: str) -> None:
    import timm

    base, _, tag = architecture.partition(".")
    if not base or not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.6)
        suffix = did_you_mean(base, near) if near else "; timm.list_models() lists the names"
        raise InputError(f"model {architecture}: timm has no such architecture{suffix}")
    if tag:
        pretrained_config(architecture)


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list | tuple) else value
