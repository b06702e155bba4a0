"""The tables of where networks look: overlap by stage, and every measure in the mean over stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dctkd.report.captions import common_notes
from dctkd.report.collect import TEACHER, Collected
from dctkd.report.layout import Group, Layout, Measure, Values
from dctkd.report.tables.arrangement import MEAN_AND_INTERVAL, Quantity, points_cell, side_by_side, with_notes
from dctkd.report.tables.rendering import Cell, Table

ATTENTION: Mapping[str, tuple[Measure, str]] = {
    "overlap_pearson": (Measure("overlap_pearson", "mean"), "Pearson"),
    "overlap_cosine": (Measure("overlap_cosine", "mean"), "cosine"),
    "overlap_js_divergence": (Measure("overlap_js_divergence", "mean"), "JS divergence"),
    "overlap_iou_top20": (Measure("overlap_iou_top20", "mean"), "IoU of top 20 %"),
    "overlap_ssim_release": (
        Measure("overlap_ssim_release", "mean", "test_teacher_correct"),
        "SSIM as P1 (teacher right)",
    ),
    "gradcam_ssim": (Measure("gradcam_ssim", "mean"), "Grad-CAM SSIM"),
    "attention_mass_on_relevant": (Measure("attention_mass_on_relevant", "mean"), "mass on deciding objects"),
    "attention_mass_on_objects": (Measure("attention_mass_on_objects", "mean"), "mass on objects"),
    "attention_objects_held": (Measure("attention_objects_held", "mean"), "objects held"),
    "attention_pointing_game": (Measure("attention_pointing_game", "mean"), "pointing game"),
    "gradcam_pointing_game": (Measure("gradcam_pointing_game", "mean"), "Grad-CAM pointing game"),
}
"""Columns of the attention table: key, measure, heading. Those that no run has are left out."""


def overlap_tables(collected: Collected, values: Values) -> list[Table]:
    """Return the similarity of student's and teacher's activation maps: a row per method, a column per stage."""
    layout = Layout.of(collected.plan)

    def measured(measure: Measure) -> Callable[[Group, str], Cell]:
        return lambda group, method: _overlap_cell(values, group, method, measure, len(layout.seeds))

    measured_stages = tuple(measure for measure in values.measures("overlap_ssim") if measure.split == "test")
    stages = measured_stages or (Measure("overlap_ssim", "mean"),)
    quantities = [Quantity(f"overlap_ssim_{stage.stage}", f"SSIM {stage.stage}", measured(stage)) for stage in stages]
    tables = [
        side_by_side("overlap with the teacher", layout, (group,), layout.methods, quantities)
        for group in layout.groups
    ]
    own = f"SSIM of student's and teacher's activation maps on the test set; 1: equal. {MEAN_AND_INTERVAL} over seeds."
    return with_notes(tables, (own, *common_notes(collected)))


def attention_tables(collected: Collected, values: Values) -> list[Table]:
    """Return where networks look, against the teacher and against annotated objects: means over images and stages."""
    layout = Layout.of(collected.plan)

    def measured(measure: Measure) -> Callable[[Group, str], Cell]:
        return lambda group, method: _overlap_cell(values, group, method, measure, len(layout.seeds))

    known = {key: column for key, column in ATTENTION.items() if column[0] in values.measures(column[0].metric)}
    shown = known or {key: ATTENTION[key] for key in ("overlap_pearson",)}
    quantities = [Quantity(key, label, measured(measure)) for key, (measure, label) in shown.items()]
    tables = [
        side_by_side("where the networks look", layout, (group,), (TEACHER, *layout.methods), quantities)
        for group in layout.groups
    ]
    own = (
        "Means over test images and stages. Pearson to SSIM: of the student's activation maps with the teacher's "
        "(JS divergence: 0 for equal maps, the others 1). Grad-CAM: of the label.",
        "Mass on objects: share of the map's mass over share of the area, 1 by chance; deciding objects are those that "
        "define the class, where the dataset says so. Objects held: number with at least 10 % of the mass. Pointing "
        "game: share of the brightest cell that such objects cover. " + _annotated_text(values, layout),
        f"{MEAN_AND_INTERVAL} over seeds.",
    )
    return with_notes(tables, (*own, *common_notes(collected)))


def _annotated_text(values: Values, layout: Layout) -> str:
    """Say how many test images the object columns rest on."""
    counts = {
        group.dataset: int(point.value)
        for group in layout.groups
        for point in values.of_seeds(group, TEACHER, Measure("attention_annotated_images", "")).values()
    }
    known = ", ".join(f"{count:,} of {dataset}" for dataset, count in counts.items())
    return f"On annotated test images only: {known or 'there are none'}."


def _overlap_cell(values: Values, group: Group, method: str, measure: Measure, num_seeds: int) -> Cell:
    points = values.of_seeds(group, method, measure)
    return points_cell(points, "{:.3f}".format, num_seeds) if points else Cell()
