"""Every figure of an experiment by the name of its files: what is drawn by which module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from matplotlib.figure import Figure

from dctkd.plan import Plan
from dctkd.report import figure_names
from dctkd.report.collect import Collected
from dctkd.report.figures.accuracy import draw_accuracy
from dctkd.report.figures.attention import attention_figures
from dctkd.report.figures.critical_difference import draw_critical_difference
from dctkd.report.figures.inference_cost import draw_accuracy_vs_gmacs
from dctkd.report.figures.learning_curves import draw_learning_curves
from dctkd.report.figures.style import Drawing
from dctkd.report.figures.training_cost import draw_accuracy_vs_training_cost
from dctkd.report.figures.weight_ablation import draw_weight_ablation
from dctkd.report.layout import TOP1, Group, Values
from dctkd.report.published import read_published

OF_THE_TABLES: Mapping[str, Callable[[Collected, Values], Figure]] = MappingProxyType(
    {
        "accuracy": draw_accuracy,
        "accuracy_vs_gmacs": draw_accuracy_vs_gmacs,
        "accuracy_vs_training_cost": draw_accuracy_vs_training_cost,
        "learning_curves": draw_learning_curves,
        "critical_difference": draw_critical_difference,
    }
)
"""Figures of the numbers in the tables; those of maps are in attention.py."""


def make_drawings(collected: Collected, store: Path | None) -> dict[str, Drawing]:
    """Return what draws each figure that this experiment has, by the name of its files.

    Args:
        collected: The experiment.
        store: `results/store`; None: there are no maps.
    """
    values = Values(collected.frame)
    drawings = {name: partial(draw, collected, values) for name, draw in OF_THE_TABLES.items()}
    known: dict[str, Drawing] = {
        **drawings,
        "weight_ablation": partial(draw_weight_ablation, collected, values, _published_weights(collected.plan)),
        **attention_figures(collected, store),
    }
    return {name: known[name] for name in figure_names(collected.plan)}


def _published_weights(plan: Plan) -> dict[tuple[Group, str, float], float]:
    """Return published top-1 by dataset and pair, method and weight, of the sources that the experiment asks for."""
    return {
        (Group(value.dataset, value.pair), value.row, value.weight): value.value
        for name in plan.config.reported
        for values in read_published(name).values.values()
        for value in values
        if value.weight is not None and value.metric == TOP1.metric
    }
