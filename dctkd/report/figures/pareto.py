"""The Pareto front: which points nothing else beats in both cost and accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

FRONT_LABEL = "Pareto front"
FRONT: dict[str, Any] = {"color": "0.35", "lw": 1.1, "ls": (0, (5, 2)), "zorder": 2}


def pareto_front(points: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Return the names that no other point beats: none is at least as cheap and as accurate, and better in one of them.

    Points that are equal in both are all on the front, or none is.

    Args:
        points: Cost and accuracy by name; finite numbers in any one unit each.

    Returns:
        Names in order of cost; equals in the order given.

    Example:
        >>> pareto_front({"kd": (2.0, 70.0), "crd": (3.0, 69.0), "baseline": (1.0, 60.0), "fam": (4.0, 71.0)})
        ('baseline', 'kd', 'fam')
    """
    front: list[str] = []
    best = float("-inf")
    # The cheapest first, of equally cheap ones the most accurate: who is not above all before it is beaten.
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        accuracy = points[name][1]
        if accuracy > best or (front and points[name] == points[front[-1]]):
            front.append(name)
            best = accuracy
    return tuple(front)


def draw_front(axes: Axes, corners: list[tuple[float, float]]) -> None:
    """Draw the best accuracy that a budget buys, as steps through the front's points and on to the right edge.

    Call it when the limits of the x axis are final.

    Args:
        axes: Where to draw.
        corners: Place of each point of the front, in order of cost.
    """
    x, y = zip(*sorted(corners), strict=True)
    axes.plot([*x, axes.get_xlim()[1]], [*y, y[-1]], drawstyle="steps-post", label=FRONT_LABEL, **FRONT)


def front_handle() -> Line2D:
    """Return the legend entry of the front."""
    return Line2D([], [], label=FRONT_LABEL, **FRONT)
