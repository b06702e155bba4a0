"""Learning curves show the mean and the range of the right runs at the right epochs."""

import json

import numpy as np
import pandas as pd
import pytest

from dctkd.report.collect import gather
from dctkd.report.figures.learning_curves import MAX_GROUPS, curve_of, draw_learning_curves, split_of
from dctkd.report.figures.style import render
from dctkd.report.layout import TOP1, Group, Values
from tests.report.conftest import EPOCHS


def drawn(tree, *, partial=False):
    collected = gather(tree.folder, tree.store, partial=partial)
    values = Values(collected.frame)
    return draw_learning_curves(collected, values), values


def history(rows):
    lines = [(10 * epoch, epoch, split, "top1_percent", value, "percent") for epoch, split, value in rows]
    return pd.DataFrame(lines, columns=["step", "epoch", "split", "name", "value", "unit"])


def panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title() == title)


def curves_in(axes):
    return [line for line in axes.lines if len(line.get_xdata()) == EPOCHS]


def rewrite_histories(tree, keep):
    """Keep the lines of every history of which this is true."""
    for path in tree.store.glob("*/history.jsonl"):
        lines = [line for line in path.read_text().splitlines() if keep(json.loads(line))]
        path.write_text("".join(f"{line}\n" for line in lines))


def test_mean_and_range_are_those_of_the_seeds():
    seeds = [history([(1, "test", a), (2, "test", b)]) for a, b in ((10.0, 40.0), (20.0, 50.0), (60.0, 90.0))]
    curve = curve_of(seeds, "test")
    assert curve.epochs.tolist() == [1, 2]
    assert curve.mean.tolist() == [30.0, 60.0]
    assert curve.low.tolist() == [10.0, 40.0]
    assert curve.high.tolist() == [60.0, 90.0]
    assert curve.num_seeds == 3


def test_epochs_that_a_seed_lacks_are_left_out():
    seeds = [history([(1, "test", 10.0), (2, "test", 20.0)]), history([(2, "test", 40.0)])]
    assert curve_of(seeds, "test").mean.tolist() == [30.0]


def test_runs_without_a_common_epoch_have_no_curve():
    assert curve_of([history([(1, "test", 1.0)]), history([(2, "test", 1.0)])], "test") is None
    assert curve_of([], "test") is None


@pytest.mark.parametrize(
    ("splits", "shown"), [((), None), (("train",), "train"), (("test",), "test"), (("train", "test"), "test")]
)
def test_test_accuracy_is_shown_where_it_was_logged(splits, shown):
    assert split_of([history([(1, split, 1.0)]) for split in splits]) == shown


def test_a_panel_ends_at_the_mean_accuracy_of_its_method_and_of_the_baseline(small):
    figure, values = drawn(small)
    ends = [line.get_ydata()[-1] for line in curves_in(panel(figure, "kd"))]
    group = Group("scenes", "wide__narrow")
    means = [
        np.mean([point.value for point in values.of_seeds(group, method, TOP1).values()])
        for method in ("baseline", "kd")
    ]
    assert ends == pytest.approx(means)


def test_a_method_shares_its_panel_with_its_kd_row_in_another_dash(small):
    lines = curves_in(panel(drawn(small)[0], "at"))
    assert len(lines) == 3  # the baseline, at, at+kd
    assert lines[1].get_color() == lines[2].get_color()
    assert lines[1].is_dashed() != lines[2].is_dashed()


def test_the_teacher_is_a_level_line_at_its_last_accuracy(small):
    figure, values = drawn(small)
    teacher = values.of_seeds(Group("scenes", "wide__narrow"), "teacher", TOP1)[0].value
    assert teacher in [line.get_ydata()[0] for line in panel(figure, "kd").lines]


def test_the_axis_says_which_images_the_accuracy_is_of(made_up):
    tree = made_up()
    assert drawn(tree)[0].get_supylabel() == "test top-1 accuracy (%)"
    rewrite_histories(tree, lambda row: row["split"] == "train")
    figure, _ = drawn(tree)
    assert figure.get_supylabel() == "training top-1 accuracy (%)"
    assert curves_in(panel(figure, "kd"))[-1].get_ydata()[-1] == pytest.approx(90.0)  # as the histories end


def test_the_band_is_named_and_there_is_none_for_one_seed(made_up, small):
    words = [text.get_text() for text in drawn(small)[0].legends[0].get_texts()]
    assert any("lowest to highest seed" in text for text in words)
    figure, _ = drawn(made_up(seeds=(0,)))
    assert [len(axes.collections) for axes in figure.axes] == [0] * len(figure.axes)
    assert not any("seed" in text.get_text() for text in figure.legends[0].get_texts())


def test_failed_runs_are_not_drawn_and_counted_in_words(made_up):
    tree = made_up(failures={("kd", 0): "diverged", ("kd", 1): "diverged", ("kd", 2): "oom"})
    axes = panel(drawn(tree)[0], "kd")
    assert len(curves_in(axes)) == 1  # the baseline
    assert [text.get_text() for text in axes.texts] == ["kd: 2 div.\nkd: 1 oom"]


def test_runs_without_history_give_a_sentence(made_up):
    tree = made_up()
    for path in tree.store.glob("*/history.jsonl"):
        path.unlink()
    figure, _ = drawn(tree)
    assert "history.jsonl" in figure.texts[-1].get_text()


def test_a_partial_tree_is_drawn_as_far_as_it_is_there(made_up):
    absent = frozenset((method, seed) for method in ("kd", "teacher") for seed in (0, 1, 2))
    figure, _ = drawn(made_up(absent=absent), partial=True)
    figure.draw_without_rendering()
    assert len(curves_in(panel(figure, "kd"))) == 1


def test_a_baseline_alone_has_a_panel(made_up):
    figure, _ = drawn(made_up(methods=("baseline",)))
    assert len(curves_in(panel(figure, "baseline"))) == 1


def test_many_pairs_have_a_row_each_up_to_a_limit_that_the_title_tells(made_up):
    pairs = tuple(("wide", f"narrow{number}") for number in range(5))
    figure, _ = drawn(made_up(datasets=("a", "b"), pairs=pairs, methods=("baseline", "kd"), seeds=(0,)))
    assert [axes.get_ylabel() for axes in figure.axes][-2:] == ["b\nwide to\nnarrow2", "b\nwide to\nnarrow3"]
    assert len(figure.axes) == MAX_GROUPS
    assert f"first {MAX_GROUPS} of 10" in figure.get_suptitle()


def test_drawing_again_gives_the_same_bytes(small):
    first, second = (render("curves", lambda: drawn(small)[0]) for _ in range(2))
    assert first == second
