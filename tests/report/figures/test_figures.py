"""The figures show every method, hold at any size, and are the same bytes each time."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from dctkd.report.collect import gather
from dctkd.report.figures.accuracy import draw_accuracy
from dctkd.report.figures.inference_cost import draw_accuracy_vs_gmacs, spread_bands
from dctkd.report.figures.style import looks_of_methods
from dctkd.report.layout import TOP1, Group, Values


def drawn(tree, draw, *, partial=False):
    collected = gather(tree.folder, tree.store, partial=partial)
    return draw(collected, Values(collected.frame)), Values(collected.frame)


def error_bars(axes):
    return [container for container in axes.containers if isinstance(container, ErrorbarContainer)]


def test_accuracy_has_a_row_per_method_and_a_point_at_each_mean(small):
    figure, values = drawn(small, draw_accuracy)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(small.methods)
    means = [
        np.mean([p.value for p in values.of_seeds(Group("scenes", "wide__narrow"), method, TOP1).values()])
        for method in small.methods
    ]
    assert [bar.lines[0].get_xdata()[0] for bar in error_bars(axes)] == pytest.approx(means)
    assert "%" in axes.get_xlabel()


def test_accuracy_has_a_facet_per_dataset_and_the_teacher_as_a_line(wide):
    figure, values = drawn(wide, draw_accuracy)
    assert [axes.get_title() for axes in figure.axes] == ["b", "a", "c"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:5] == ["r50__r18", "r50__mobile", "r152__r34", "teacher r50", "teacher r152"]
    teacher = values.of_seeds(Group("b", "r50__r18"), "teacher", TOP1)[0].value
    assert teacher in [line.get_xdata()[0] for line in figure.axes[0].lines]


def test_titles_name_experiment_and_seeds(small):
    for draw in (draw_accuracy, draw_accuracy_vs_gmacs):
        title = drawn(small, draw)[0].get_suptitle()
        assert title.startswith("madeup: ")
        assert "n = 3 seeds" in title


def test_failed_runs_are_written_beside_their_method(made_up):
    tree = made_up(failures={("at", 0): "oom", ("at", 1): "diverged"})
    figure, _ = drawn(tree, draw_accuracy)
    assert "1 div., 1 oom" in [text.get_text() for text in figure.axes[0].texts]


def test_points_of_a_pair_stand_within_its_band_and_the_teacher_at_its_gmacs(small):
    figure, _ = drawn(small, draw_accuracy_vs_gmacs)
    (axes,) = figure.axes
    x = [bar.lines[0].get_xdata()[0] for bar in error_bars(axes)]
    left, right = spread_bands({"wide__narrow": 0.5}, [4.0])["wide__narrow"]
    assert all(left < position < right for position in x[:-1])
    assert x[-1] == pytest.approx(4.0)


def test_methods_can_be_told_apart_without_colour():
    methods = ("baseline", "kd", *"abcdefghi", *(f"{name}+kd" for name in "abcdefghi"))
    looks = looks_of_methods(methods)
    assert len({(look.marker, look.is_filled) for look in looks.values()}) == 20
    assert looks["a"].colour == looks["a+kd"].colour


@pytest.mark.parametrize(
    ("students", "others"),
    [
        ({"a": 1.0}, []),
        ({"a": 1.0}, [1.0]),
        ({"a": 1.0, "b": 1.0, "c": 1.001}, [4.0]),
        ({"a": 0.31, "b": 1.82, "c": 3.67}, [4.1, 11.5]),
        ({"a": 3.67, "b": 3.5, "c": 3.3, "d": 0.01}, [11.5]),
    ],
)
def test_bands_are_in_order_and_do_not_overlap(students, others):
    bands = sorted(spread_bands(students, others).values())
    assert len(bands) == len(students)
    assert all(0 < left < right for left, right in bands)
    assert all(first[1] <= second[0] * (1 + 1e-12) for first, second in pairwise(bands))


def test_experiment_without_any_run_and_cost_still_gives_figures(made_up):
    absent = frozenset((m, s) for m in ("baseline", "kd", "at", "at+kd", "teacher") for s in (0, 1, 2))
    tree = made_up(absent=absent)
    (tree.folder / "cost.json").unlink()
    figure, _ = drawn(tree, draw_accuracy_vs_gmacs, partial=True)
    figure.draw_without_rendering()
    assert "no cost.json" in figure.axes[0].texts[0].get_text()
    drawn(tree, draw_accuracy, partial=True)[0].draw_without_rendering()


def test_one_seed_draws_points_without_bars(made_up):
    figure, _ = drawn(made_up(seeds=(0,)), draw_accuracy)
    assert len(error_bars(figure.axes[0])) == 4
