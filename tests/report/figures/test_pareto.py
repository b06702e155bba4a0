"""The Pareto front of hand-worked cases, and its steps."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from dctkd.report.collect import gather
from dctkd.report.figures.inference_cost import draw_accuracy_vs_gmacs
from dctkd.report.figures.pareto import FRONT_LABEL, draw_front, pareto_front
from dctkd.report.layout import TOP1, Group, Values


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ({}, ()),
        ({"a": (1, 1)}, ("a",)),
        ({"dear": (2, 1), "cheap": (1, 2)}, ("cheap",)),
        ({"good": (2, 2), "cheap": (1, 1)}, ("cheap", "good")),
        ({"worse": (1, 1), "better": (1, 2)}, ("better",)),
        ({"dear": (2, 1), "cheap": (1, 1)}, ("cheap",)),
        ({"first": (1, 1), "equal": (1, 1)}, ("first", "equal")),
        ({"beats": (0, 2), "first": (1, 1), "equal": (1, 1)}, ("beats",)),
        ({"d": (4, 5), "c": (3, 2), "b": (2, 4), "a": (1, 1), "e": (4, 5), "f": (5, 5)}, ("a", "b", "d", "e")),
    ],
    ids=[
        "nothing",
        "one",
        "beaten in both",
        "a trade",
        "equal cost",
        "equal accuracy",
        "equal in both",
        "equals beaten",
        "six",
    ],
)
def test_front_is_what_nothing_beats(points, front):
    assert pareto_front(points) == front


def test_steps_rise_at_the_dearer_point_and_go_on_to_the_right_edge():
    axes = Figure().subplots()
    axes.set_xlim(0, 10)
    draw_front(axes, [(4, 70), (1, 60)])
    (line,) = axes.lines
    assert line.get_drawstyle() == "steps-post"
    assert line.get_xydata().tolist() == [[1, 60], [4, 70], [10, 70]]


def test_front_of_inference_holds_the_best_student_of_equally_dear_ones_and_the_better_teacher(small):
    collected = gather(small.folder, small.store)
    values = Values(collected.frame)
    (axes,) = draw_accuracy_vs_gmacs(collected, values).axes
    (front,) = [line for line in axes.lines if line.get_label() == FRONT_LABEL]
    group = Group("scenes", "wide__narrow")
    means = [np.mean([p.value for p in values.of_seeds(group, method, TOP1).values()]) for method in small.methods]
    teacher = values.of_seeds(group, "teacher", TOP1)[0].value
    assert front.get_ydata() == pytest.approx([max(means), teacher, teacher])
    assert front.get_xdata()[1] == pytest.approx(4.0)  # the teacher's GMACs
