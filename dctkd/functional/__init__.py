"""Tensor maths of the losses: pure functions without modules, parameters or state, accumulated in float32 or wider."""

from dctkd.functional.attention import activation_map, minmax_normalise, pool_to_smaller
from dctkd.functional.dct import dct2, idct2
from dctkd.functional.distances import mean_squared_error_per_sample
from dctkd.functional.logits import kl_from_logits, kl_per_sample

__all__ = [
    "activation_map",
    "dct2",
    "idct2",
    "kl_from_logits",
    "kl_per_sample",
    "mean_squared_error_per_sample",
    "minmax_normalise",
    "pool_to_smaller",
]
