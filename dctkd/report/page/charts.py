"""Interactive charts of the page, as specifications for plotly.js: plain data, no plotly needed to make them.

Each chart has one figure per dataset and pair. A point of one run carries the run's digest in `customdata`; the page
opens the run on a click.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex

from dctkd.report.attention import students_of
from dctkd.report.collect import TEACHER, Collected
from dctkd.report.figures.attention import overlap_gains
from dctkd.report.figures.style import Look, looks_of_methods
from dctkd.report.figures.training_cost import costs_of
from dctkd.report.layout import TOP1, Group, Layout, Values
from dctkd.report.statistics import summarise

SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "<": "triangle-left",
    ">": "triangle-right",
    "p": "pentagon",
    "h": "hexagon",
    "d": "diamond-tall",
}
"""plotly's names of the markers of the printed figures."""

DARK = "#333333"
Spec = dict[str, Any]


def make_charts(collected: Collected) -> list[Spec]:
    """Return the charts: id, title, note, and figures with label, data and layout; those without data are left out."""
    values, layout = Values(collected.frame), Layout.of(collected.plan)
    looks = looks_of_methods(layout.methods)
    makers = (
        ("accuracy", "Accuracy", "Marker: mean and 95 % interval over seeds; ticks: runs.", _accuracy),
        ("training-cost", "Accuracy against cost of training", "Mean and 95 % interval over seeds.", _training_cost),
        ("learning-curves", "Learning curves", "Mean over seeds. Click a name to hide it.", _learning_curves),
        ("overlap", "Does looking alike pay?", "Gain over the baseline of the same seed; a point per run.", _overlap),
    )
    charts = []
    for identifier, title, note, make in makers:
        made = ((group, make(collected, values, group, looks)) for group in layout.groups)
        figures = [{"label": layout.label(group), **figure} for group, figure in made if figure["data"]]
        if figures:
            charts.append({"id": identifier, "title": title, "note": note, "figures": figures})
    return charts


def escape(text: str) -> str:
    """Return text that plotly.js shows as it is: it reads a small part of HTML in texts.

    Example:
        >>> escape("<b> & c")
        '&lt;b&gt; &amp; c'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _accuracy(collected: Collected, values: Values, group: Group, looks: Mapping[str, Look]) -> Spec:
    """Draw a row per method, the teacher last."""
    rows = {TEACHER: Look(DARK, "s"), **looks}
    data: list[Spec] = []
    for method, look in rows.items():
        points = values.of_seeds(group, method, TOP1)
        if not points:
            continue
        summary = summarise(point.value for point in points.values())
        half = summary.half_width or 0.0
        data.append(
            {
                **_trace(method, look, [summary.mean], [escape(method)]),
                "error_x": {"type": "data", "array": [half], "color": to_hex(look.colour), "thickness": 1.5},
                "hovertemplate": f"%{{x:.2f}} ± {half:.2f} (n = {summary.n})<extra>{escape(method)}</extra>",
            }
        )
        data.append(
            {
                **_trace(method, look, [point.value for point in points.values()], [escape(method)] * len(points)),
                "marker": {"symbol": "line-ns-open", "size": 10, "color": to_hex(look.colour)},
                "customdata": [point.digest for point in points.values()],
                "text": [f"seed {seed}" for seed in points],
                "hovertemplate": f"%{{x:.2f}}, %{{text}}: click for the run<extra>{escape(method)}</extra>",
            }
        )
    height = 110 + 24 * len(rows)
    order = {"type": "category", "autorange": "reversed", "automargin": True}
    return {
        "data": data,
        "layout": {"height": height, "showlegend": False, "xaxis": _axis("top-1 (%)"), "yaxis": order},
    }


def _training_cost(collected: Collected, values: Values, group: Group, looks: Mapping[str, Look]) -> Spec:
    costs = costs_of(collected, values, group)
    data = []
    for method, look in looks.items():
        points = values.of_seeds(group, method, TOP1)
        if points and method in costs.by_method:
            summary = summarise(point.value for point in points.values())
            data.append(
                {
                    **_trace(method, look, [costs.by_method[method]], [summary.mean]),
                    "error_y": {"type": "data", "array": [summary.half_width or 0.0], "thickness": 1},
                    "hovertemplate": f"%{{x:.4g}}, %{{y:.2f}} %<extra>{escape(method)}</extra>",
                }
            )
    return {"data": data, "layout": {"height": 480, "xaxis": _axis(costs.label), "yaxis": _axis("top-1 (%)")}}


def _learning_curves(collected: Collected, values: Values, group: Group, looks: Mapping[str, Look]) -> Spec:
    """Draw the accuracy on the test images where it was measured during training, else on the training images."""
    curves = {
        split: {method: _mean_curve(collected, group, method, split) for method in looks} for split in ("test", "train")
    }
    split = "test" if any(len(curve) > 1 for curve in curves["test"].values()) else "train"
    data = [
        {
            **_trace(method, looks[method], curve.index.tolist(), curve.round(3).tolist()),
            "mode": "lines",
            "line": {"color": to_hex(looks[method].colour), "dash": "solid" if looks[method].is_filled else "dash"},
            "hovertemplate": f"epoch %{{x}}: %{{y:.2f}} %<extra>{escape(method)}</extra>",
        }
        for method, curve in curves[split].items()
        if len(curve)
    ]
    title = "top-1 on the test images (%)" if split == "test" else "top-1 on the training images (%)"
    return {"data": data, "layout": {"height": 480, "xaxis": _axis("epoch"), "yaxis": _axis(title)}}


def _mean_curve(collected: Collected, group: Group, method: str, split: str) -> pd.Series[float]:
    found = (digest for (name, _), digest in students_of(collected, group).items() if name == method)
    histories = [history for digest in found if (history := collected.evidence.history(digest)) is not None]
    wanted = [rows[(rows["split"] == split) & (rows["name"] == "top1_percent")] for rows in histories]
    if not any(map(len, wanted)):
        return pd.Series(dtype="float64")
    mean: pd.Series[float] = pd.concat(wanted).groupby("epoch")["value"].mean()
    return mean


def _overlap(collected: Collected, values: Values, group: Group, looks: Mapping[str, Look]) -> Spec:
    gains = overlap_gains(values, group, tuple(looks))
    data = [
        {
            **_trace(method, looks[method], [x for x, _ in points], [y for _, y in points]),
            "hovertemplate": f"overlap %{{x:+.3f}}, top-1 %{{y:+.2f}} points<extra>{escape(method)}</extra>",
        }
        for method, points in gains.items()
    ]
    axes = {"xaxis": _axis("gain in SSIM with the teacher's maps"), "yaxis": _axis("gain in top-1 (points)")}
    return {"data": data, "layout": {"height": 480, **axes}}


def _trace(name: str, look: Look, x: list[Any], y: list[Any]) -> Spec:
    symbol = SYMBOLS[look.marker] + ("" if look.is_filled else "-open")
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escape(name),
        "x": x,
        "y": y,
        "marker": {"symbol": symbol, "size": 9, "color": to_hex(look.colour)},
    }


def _axis(title: str) -> Spec:
    return {"title": {"text": title}, "zeroline": False, "automargin": True}
