"""Costs of training are the ones worked out by hand, and points stand at them or say that they were moved."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from dctkd.report.collect import gather
from dctkd.report.figures.style import render
from dctkd.report.figures.training_cost import (
    GMACS_LABEL,
    SECONDS_LABEL,
    costs_of,
    draw_accuracy_vs_training_cost,
    moved_apart,
)
from dctkd.report.layout import TOP1, Group, Values

GROUP = Group("scenes", "wide__narrow")


def collected_of(tree, *, partial=False):
    collected = gather(tree.folder, tree.store, partial=partial)
    return collected, Values(collected.frame)


def drawn(tree, *, partial=False):
    return draw_accuracy_vs_training_cost(*collected_of(tree, partial=partial))


def points_in(axes):
    bars = [container.lines[0] for container in axes.containers if isinstance(container, ErrorbarContainer)]
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in bars]


def front_in(axes):
    return next(line for line in axes.lines if line.get_label() == "Pareto front")


def test_seconds_are_those_of_runs_trained_alone_and_the_baselines_without_the_teachers_pass(small):
    costs = costs_of(*collected_of(small), GROUP)
    assert costs.label == SECONDS_LABEL
    # 120.5 + seed for each; of the baseline's, 100 are its own steps.
    assert costs.by_method == pytest.approx({"baseline": 100.0, "kd": 121.5, "at": 121.5, "at+kd": 121.5})


def test_gmacs_count_the_student_three_times_and_the_teacher_once_where_it_is_read(made_up):
    costs = costs_of(*collected_of(made_up(packed=2)), GROUP)
    assert costs.label == GMACS_LABEL
    # student 0.5, teacher 4, extra 0.002 x number of the method; 3 x (student + extra) + teacher
    assert costs.by_method == pytest.approx({"baseline": 1.5, "kd": 5.506, "at": 5.512, "at+kd": 5.518})


def test_one_method_without_seconds_puts_all_on_gmacs(made_up):
    tree = made_up()
    digest_folder = tree.run_folder("kd", 0).path
    for seed in (0, 1, 2):
        (tree.run_folder("kd", seed).path / "timing.json").unlink()
    assert digest_folder.is_dir()
    assert costs_of(*collected_of(tree), GROUP).label == GMACS_LABEL


def test_a_baseline_with_kd_reads_the_teacher(made_up):
    costs = costs_of(*collected_of(made_up(methods=("baseline", "baseline+kd"), packed=2)), GROUP)
    assert costs.by_method == pytest.approx({"baseline": 1.5, "baseline+kd": 5.506})


def test_methods_without_a_known_cost_are_named(made_up):
    tree = made_up(packed=2)
    cost = (tree.folder / "cost.json").read_text().replace('"extra_macs": 4000000', '"extra_macs": null')
    (tree.folder / "cost.json").write_text(cost)
    (axes,) = drawn(tree).axes
    assert len(points_in(axes)) == 3
    assert "cost not known: at" in [text.get_text() for text in axes.texts]


def test_points_are_the_means_at_their_costs_where_there_is_room(made_up):
    tree = made_up(methods=("baseline", "kd"))
    (axes,) = drawn(tree).axes
    _, values = collected_of(tree)
    means = {m: np.mean([p.value for p in values.of_seeds(GROUP, m, TOP1).values()]) for m in ("baseline", "kd")}
    expected = [(100.0, means["baseline"]), (121.5, means["kd"])]
    assert sorted(points_in(axes)) == [pytest.approx(point) for point in expected]
    assert axes.get_xlabel() == SECONDS_LABEL


def test_of_equally_dear_methods_the_most_accurate_stands_first_and_the_front_goes_through_it(small):
    (axes,) = drawn(small).axes
    moved = sorted(point for point in points_in(axes) if point[0] > 110)
    assert [y for _, y in moved] == sorted((y for _, y in moved), reverse=True)
    assert moved[0] in [pytest.approx(corner) for corner in front_in(axes).get_xydata().tolist()]
    assert "all at 122" in [text.get_text() for text in axes.texts]


def test_the_front_leaves_out_what_is_beaten(small):
    (axes,) = drawn(small).axes
    corners = front_in(axes).get_xydata().tolist()
    assert all(first[1] <= second[1] for first, second in pairwise(corners))
    assert len(corners) == 3  # the baseline, the best of the others, the right edge


@pytest.mark.parametrize(
    ("places", "gap", "expected"),
    [
        ({}, 1.0, {}),
        ({"a": 3.0, "b": 9.0}, 2.0, {"a": 3.0, "b": 9.0}),
        ({"a": 5.0, "b": 5.0, "c": 5.0}, 1.0, {"a": 4.0, "b": 5.0, "c": 6.0}),
        ({"b": 5.5, "a": 5.0}, 1.0, {"a": 4.75, "b": 5.75}),
        # The pair at 5 would push into 6.2: all three share the shift, mean 5.4 = middle.
        ({"a": 5.0, "b": 5.0, "c": 6.2}, 1.0, {"a": 4.4, "b": 5.4, "c": 6.4}),
        ({"a": 0.0, "b": 0.0}, 1.0, {"a": 0.5, "b": 1.5}),
    ],
    ids=["nothing", "room", "three at one place", "near", "a chain", "none below zero"],
)
def test_places_keep_a_gap_and_their_order(places, gap, expected):
    assert moved_apart(places, gap) == pytest.approx(expected)


def test_there_is_a_facet_per_dataset_and_pair_in_rows_of_datasets(wide):
    figure = drawn(wide)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["b r50__r18", "b r50__mobile", "b r152__r34", "a r50__r18"]
    assert len(titles) == 9


def test_an_experiment_without_any_run_says_that_costs_are_not_known(made_up):
    absent = frozenset((m, s) for m in ("baseline", "kd", "at", "at+kd", "teacher") for s in (0, 1, 2))
    tree = made_up(absent=absent)
    (tree.folder / "cost.json").unlink()
    figure = drawn(tree, partial=True)
    figure.draw_without_rendering()
    assert "not known" in figure.axes[0].texts[0].get_text()


def test_one_seed_and_failed_methods_are_drawn_as_far_as_they_are_there(made_up):
    figure = drawn(made_up(seeds=(0,), failures={("kd", 0): "diverged"}))
    figure.draw_without_rendering()
    assert len(points_in(figure.axes[0])) == 3


def test_drawing_again_gives_the_same_bytes(small):
    first, second = (render("cost", lambda: drawn(small)) for _ in range(2))
    assert first == second
