"""A mosaic is drawn as matplotlib draws its pictures one by one, to the byte."""

import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dctkd.report.figures.mosaic import Mosaic
from dctkd.report.figures.style import METADATA

PICTURES = (((8, 8), (0.1, 0.76, 0.9, 0.24)), ((3, 5), (1.03, 1.69, 0.77, 0.11)), ((1, 64), (0.35, 2.33, 1.6, 1.5)))
"""Rows and columns of each, and where it is: in inches, off the pixels."""


def written(suffix, is_mosaic, dpi=180):
    figure = Figure(figsize=(2.5, 1.7))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    mosaic = Mosaic(axes)
    draw = np.random.default_rng(0)
    for number, ((rows, columns), extent) in enumerate(PICTURES):
        look = {} if number == 2 else {"interpolation": "nearest"}
        colours = draw.uniform(size=(rows, columns, 3))
        if is_mosaic:
            mosaic.show(colours, extent, **look)
        else:
            axes.imshow(colours, extent=extent, aspect="auto", origin="upper", **look)
    axes.text(0.2, 0.3, "before the pictures")
    axes.set(xlim=(0, 2.5), ylim=(1.7, 0))
    axes.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, dpi=dpi, metadata=METADATA[suffix])
    return buffer.getvalue()


@pytest.mark.parametrize("dpi", [180, 77])
@pytest.mark.parametrize("suffix", METADATA)
def test_a_mosaic_is_written_in_the_bytes_of_its_pictures(suffix, dpi, monkeypatch):
    monkeypatch.setitem(mpl.rcParams, "svg.hashsalt", "fixed")
    assert written(suffix, is_mosaic=True, dpi=dpi) == written(suffix, is_mosaic=False, dpi=dpi)


@pytest.mark.parametrize("suffix", METADATA)
def test_an_empty_mosaic_draws_nothing(suffix):
    figure = Figure(figsize=(1, 1))
    FigureCanvasAgg(figure)
    Mosaic(figure.add_axes((0, 0, 1, 1))).on.set_axis_off()
    figure.savefig(io.BytesIO(), format=suffix)
