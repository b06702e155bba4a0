"""The ablation of a weight: means at their weights, zero beside the logarithmic scale, published values hollow."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from dctkd.report.collect import gather
from dctkd.report.figures.style import render
from dctkd.report.figures.weight_ablation import axis_places, draw_weight_ablation
from dctkd.report.layout import TOP1, Group, Values
from dctkd.report.statistics import summarise

GROUP = Group("scenes", "wide__narrow")
WEIGHTS = {"at-0": 0.0, "at-0.1": 0.1, "at-1": 1.0, "at-10": 10.0}
METHODS = ("baseline", *WEIGHTS)


def swept(made_up, **changes):
    return made_up(**{"methods": METHODS, "weights": WEIGHTS, **changes})


def drawn(tree, published=None, *, partial=False):
    collected = gather(tree.folder, tree.store, partial=partial)
    values = Values(collected.frame)
    return draw_weight_ablation(collected, values, published), values


def points_in(axes):
    bars = [container.lines[0] for container in axes.containers if isinstance(container, ErrorbarContainer)]
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in bars]


def mean_of(values, method, group=GROUP):
    return np.mean([point.value for point in values.of_seeds(group, method, TOP1).values()])


def hollow(axes):
    return [line for line in axes.lines if line.get_markerfacecolor() == "white"]


def test_means_stand_at_their_weights_and_zero_left_of_all(made_up):
    figure, values = drawn(swept(made_up))
    (axes,) = figure.axes
    assert points_in(axes) == [
        pytest.approx((x, mean_of(values, row))) for row, x in zip(WEIGHTS, (0.05, 0.1, 1, 10), strict=True)
    ]
    assert axes.get_xscale() == "log"


def test_zero_is_labelled_as_zero_with_a_break_in_the_axis(made_up):
    (axes,) = drawn(swept(made_up))[0].axes
    labels = dict(zip(axes.get_xticks(), [text.get_text() for text in axes.get_xticklabels()], strict=True))
    assert labels[0.05] == "0"
    assert labels[10.0] == "10"
    assert "//" in [text.get_text() for text in axes.texts]


def test_without_zero_the_axis_has_no_break(made_up):
    weights = {"at-0.1": 0.1, "at-1": 1.0, "at-10": 10.0}
    (axes,) = drawn(made_up(methods=("baseline", *weights), weights=weights))[0].axes
    assert [text.get_text() for text in axes.texts] == []


def test_the_baseline_is_a_line_at_its_mean_with_its_interval(made_up):
    figure, values = drawn(swept(made_up))
    (axes,) = figure.axes
    assert mean_of(values, "baseline") in [line.get_ydata()[0] for line in axes.lines]
    summary = summarise(point.value for point in values.of_seeds(GROUP, "baseline", TOP1).values())
    (band,) = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((summary.ci_low, summary.ci_high))


def test_published_values_are_hollow_markers_also_at_weights_that_were_not_run(made_up):
    other = Group("elsewhere", "wide__narrow")
    published = {(GROUP, "at", 0.1): 61.5, (GROUP, "at", 5.0): 63.0, (other, "at", 1.0): 9.0, (GROUP, "kd", 1.0): 8.0}
    figure, _ = drawn(swept(made_up), published)
    (line,) = hollow(figure.axes[0])
    assert line.get_xydata().tolist() == [[0.1, 61.5], [5.0, 63.0]]
    assert "published" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_without_published_values_the_legend_has_none(made_up):
    figure, _ = drawn(swept(made_up))
    assert hollow(figure.axes[0]) == []
    assert "published" not in [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(
    ("weights", "places"),
    [
        ([2.0, 0.5], {0.5: 0.5, 2.0: 2.0}),
        ([0.0, 4.0, 1.0], {0.0: 0.5, 1.0: 1.0, 4.0: 4.0}),
        # 20 decades: a tenth of the scale's length, two decades, left of the least.
        ([0.0, 1e-10, 1e10], {0.0: 1e-12, 1e-10: 1e-10, 1e10: 1e10}),
    ],
)
def test_places_are_the_weights_and_zero_stands_apart(weights, places):
    assert axis_places(weights) == pytest.approx(places)


def test_labels_of_near_weights_do_not_touch_and_round_ones_are_kept(made_up):
    rows = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.5, 2, 3, 5]
    weights = {f"at-{weight:g}": float(weight) for weight in rows}
    figure, _ = drawn(made_up(methods=("baseline", *weights), weights=weights, seeds=(0,)))
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert {"0.1", "0.2", "0.5", "1", "2", "5"} <= {label.get_text() for label in figure.axes[0].get_xticklabels()}


def test_there_is_a_facet_per_method_dataset_and_pair(made_up):
    weights = {**WEIGHTS, "at-1+kd": 1.0, "at-2+kd": 2.0, "at-3+kd": 3.0}
    figure, _ = drawn(made_up(methods=("baseline", *weights), weights=weights, datasets=("a", "b"), seeds=(0,)))
    assert [axes.get_title() for axes in figure.axes] == ["at, a", "at, b", "at+kd, a", "at+kd, b"]


def test_failed_runs_are_written_at_their_weight(made_up):
    figure, _ = drawn(swept(made_up, failures={("at-1", seed): "diverged" for seed in (0, 1, 2)}))
    (axes,) = figure.axes
    assert len(points_in(axes)) == 3
    assert "3 div." in [text.get_text() for text in axes.texts]


def test_a_partial_tree_and_one_seed_are_drawn_as_far_as_they_are_there(made_up):
    tree = swept(made_up, seeds=(0,), absent=frozenset({("baseline", 0), ("at-1", 0)}))
    figure, _ = drawn(tree, partial=True)
    figure.draw_without_rendering()
    assert len(points_in(figure.axes[0])) == 3


def test_an_experiment_without_any_run_is_drawn_empty(made_up):
    absent = frozenset((m, s) for m in (*METHODS, "teacher") for s in (0, 1, 2))
    figure, _ = drawn(swept(made_up, absent=absent), partial=True)
    figure.draw_without_rendering()
    assert points_in(figure.axes[0]) == []


def test_without_a_sweep_a_sentence_says_so(small):
    assert "No method has three or more rows" in drawn(small)[0].texts[-1].get_text()


def test_drawing_again_gives_the_same_bytes(made_up):
    tree = swept(made_up)
    first, second = (render("weights", lambda: drawn(tree, {(GROUP, "at", 2.0): 61.0})[0]) for _ in range(2))
    assert first == second


def test_many_methods_of_one_dataset_stand_four_in_a_row(made_up):
    names = [f"at-{weight}{kd}" for kd in ("", "+kd") for weight in (1, 2, 3)]
    weights = {name: float(name.removesuffix("+kd")[3:]) for name in names}
    figure, _ = drawn(made_up(methods=("baseline", *weights), weights=weights, seeds=(0,)))
    left, right = (axes.get_subplotspec() for axes in figure.axes)
    assert (left.rowspan, left.colspan.start) == (right.rowspan, right.colspan.start - 1)
