"""The table of accuracy: top-1, difference to the baseline, mean class accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dctkd.report.captions import common_notes
from dctkd.report.collect import TEACHER, Collected
from dctkd.report.layout import BASELINE, MCA, SHORT_STATUS, TOP1, Group, Layout, Measure, Values, numbers_of
from dctkd.report.statistics import Summary, bootstrap_accuracy, bootstrap_mean_class_accuracy, paired_difference
from dctkd.report.tables.arrangement import (
    MAX_GROUPS_SIDE_BY_SIDE,
    MEAN_AND_INTERVAL,
    Quantity,
    arrange,
    points_cell,
    summary_cell,
    with_notes,
)
from dctkd.report.tables.comparison import bold_methods
from dctkd.report.tables.rendering import Cell, Table


def accuracy_tables(collected: Collected, values: Values) -> list[Table]:
    """Return top-1 accuracy, difference to the baseline and mean class accuracy, with 95 % intervals over seeds."""
    layout = Layout.of(collected.plan)
    num_seeds = len(layout.seeds)

    def measured(measure: Measure) -> Callable[[Group, str], Cell]:
        bold = {group: bold_methods(values, group, layout.methods, measure) for group in layout.groups}

        def cell(group: Group, method: str) -> Cell:
            made = _accuracy_cell(collected, values, group, method, measure)
            return replace(made, is_bold=method in bold[group])

        return cell

    def difference(group: Group, method: str) -> Cell:
        return _difference_cell(values, group, method, num_seeds)

    def count(group: Group, method: str) -> Cell:
        n = len(values.of_seeds(group, method, TOP1))
        return Cell(str(n), n, n=n) if n else Cell()

    quantities = [Quantity("top1_percent", "top-1 (%)", measured(TOP1))]
    if BASELINE in layout.methods:
        quantities.append(Quantity("top1_minus_baseline_points", f"top-1 minus {BASELINE} (points)", difference))
    quantities.append(Quantity("mca_present_percent", "MCA (%)", measured(MCA)))
    if len(layout.groups) <= MAX_GROUPS_SIDE_BY_SIDE:
        quantities.append(Quantity("n", "n", count))
    tables = arrange("accuracy", layout, (TEACHER, *layout.methods), quantities)
    own = [
        f"{MEAN_AND_INTERVAL} over seeds. One run, marked images: 95 % bootstrap over its test images, which says "
        "nothing of another training. MCA: mean of the classes' accuracies, over the classes that the test set has.",
        "Bold: not distinguishable from the best of its column at 5 % (paired t-tests over seeds, Holm-corrected over "
        "all pairs of methods); with one seed there is no test and no bold. Tests stand in the table comparison.",
    ]
    if BASELINE in layout.methods:
        own.append(
            f"Differences to {BASELINE} are paired by seed (same batches); an interval that excludes 0 is a paired "
            "t-test with p < 0.05, not corrected for the number of rows (comparison is)."
        )
    return with_notes(tables, (*own, *common_notes(collected)))


def _accuracy_cell(collected: Collected, values: Values, group: Group, method: str, measure: Measure) -> Cell:
    points = values.of_seeds(group, method, measure)
    failures = [f"{count} {SHORT_STATUS[status]}" for status, count in sorted(values.failures(group, method).items())]
    if not points:
        return Cell(", ".join(failures)) if failures else Cell()
    num_seeds, runs = len(collected.plan.config.seeds), tuple(point.digest for point in points.values())
    over_images = _over_images(collected, runs[0], measure) if len(runs) == 1 else None
    if over_images is None:
        return points_cell(points, "{:.2f}".format, num_seeds, failures)
    return summary_cell(over_images, "{:.2f}".format, runs, num_seeds, ["images", *failures])


def _over_images(collected: Collected, digest: str, measure: Measure) -> Summary | None:
    """Return the accuracy of a single run with its interval over test images; None if its predictions are not there."""
    predictions = collected.evidence.predictions(digest)
    if predictions is None:
        return None
    right_K, images_K = predictions.right_and_images(int(predictions.target_N.max()) + 1)
    if measure == MCA:
        return bootstrap_mean_class_accuracy(right_K, images_K)
    return bootstrap_accuracy(int(right_K.sum()), int(images_K.sum()))


def _difference_cell(values: Values, group: Group, method: str, num_seeds: int) -> Cell:
    if method in (TEACHER, BASELINE):
        return Cell()
    a, b = values.of_seeds(group, method, TOP1), values.of_seeds(group, BASELINE, TOP1)
    summary = paired_difference(numbers_of(a), numbers_of(b))
    if summary is None:
        return Cell()
    common = [seed for seed in a if seed in b]
    runs = (*(a[seed].digest for seed in common), *(b[seed].digest for seed in common))
    return summary_cell(summary, "{:+.2f}".format, runs, num_seeds)
