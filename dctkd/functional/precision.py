"""Keep losses in float32 or wider, whatever the dtype of the features and whatever autocast would make of a product."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def widen(x: Tensor) -> Tensor:
    """Return x in float32, or as it is if it is wider.

    Example:
        >>> widen(torch.zeros(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def outside_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function of tensors: inside it, autocast is off for the device of its first tensor argument.

    A matrix product under autocast is computed in bfloat16 also for float32 inputs, so widening the inputs is not
    enough.

    Raises:
        TypeError: When called without a tensor among the positional arguments.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next((argument.device for argument in args if isinstance(argument, Tensor)), None)
        if device is None:
            raise TypeError(f"{function.__name__} needs a tensor among its positional arguments")
        with torch.autocast(device.type, enabled=False):
            return function(*args, **kwargs)

    return wrapped
