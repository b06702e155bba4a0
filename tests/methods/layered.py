"""Methods that have layers: made with the same initial weights every time, and their layers in NumPy."""

import numpy as np
import torch

from dctkd.methods import create
from tests.methods.cases import DATA


def create_seeded(name, student, teacher, **options):
    """Return the method with initial parameters drawn from seed 0; the global generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create(name, student, teacher, DATA, **options)


def convolve(x_BCHW, weight_OCKK, bias_O=0.0):
    """Convolve with zeros around the map, so that its size stays."""
    *_, height, width = x_BCHW.shape
    reach = weight_OCKK.shape[-1] // 2
    padded = np.pad(x_BCHW, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    y_BOHW = 0.0
    for row, column in np.ndindex(*weight_OCKK.shape[2:]):
        window = padded[:, :, row : row + height, column : column + width]
        y_BOHW = y_BOHW + np.einsum("bchw,oc->bohw", window, weight_OCKK[:, :, row, column])
    return y_BOHW + np.reshape(bias_O, (1, -1, 1, 1))


def batch_normalise(x_BCHW, scale_C, shift_C):
    """Normalise each channel by the mean and the biased variance of this batch."""
    mean, var = x_BCHW.mean(axis=(0, 2, 3), keepdims=True), x_BCHW.var(axis=(0, 2, 3), keepdims=True)
    return (x_BCHW - mean) / np.sqrt(var + 1e-5) * scale_C.reshape(1, -1, 1, 1) + shift_C.reshape(1, -1, 1, 1)


def conv_norm(x_BCHW, weights, prefix):
    """Convolve and normalise with the weights `prefix`.0 and `prefix`.1 of a state dict."""
    y_BOHW = convolve(x_BCHW, weights[f"{prefix}.0.weight"])
    return batch_normalise(y_BOHW, weights[f"{prefix}.1.weight"], weights[f"{prefix}.1.bias"])
