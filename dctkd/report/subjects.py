"""What each table and figure shows, in one line: for the page and for Snakemake's report."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TABLE_SUBJECTS: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "top-1 and mean class accuracy of each method, with intervals",
        "comparison": "each method against the baseline and the best: differences, tests, ranks",
        "cost": "networks, what each method adds in training, hours of the whole experiment",
        "overlap": "similarity of student's and teacher's activation maps, by stage",
        "attention": "where the networks look, against the teacher and annotated objects",
    }
)
AUDIT_SUBJECTS: Mapping[str, str] = MappingProxyType(
    {
        "audit": "what was found in released code, and how large each effect is",
        "audit_weights": "every method's weight, chosen on images that nobody trains on",
        "audit_attainability": "published percentages that no number of right images gives",
    }
)
AUDIT_START = "audit_"
FINDING_SUBJECT = "one finding of the audit: evidence, effects, verdict"
PUBLISHED_SUBJECT = "published numbers with ours beside them"

FIGURE_SUBJECTS: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "top-1 accuracy of each method, with intervals",
        "accuracy_vs_gmacs": "accuracy against the multiply-adds of inference",
        "accuracy_vs_training_cost": "accuracy against what the training costs",
        "learning_curves": "accuracy by epoch",
        "critical_difference": "mean ranks of the methods over datasets and pairs",
        "weight_ablation": "accuracy over the weight of a method",
        "overlap_by_stage": "overlap with the teacher's maps, by stage",
        "accuracy_vs_overlap": "gain in accuracy against gain in overlap: does looking alike pay?",
        "spectra": "spectra of the activation maps",
        "montage": "test images, and where teacher and students look",
    }
)


def subject_of(file: str) -> str:
    """Return what a file of the report shows.

    Example:
        >>> subject_of("montage.png"), subject_of("p1_ade20k.csv")
        ('test images, and where teacher and students look', 'published numbers with ours beside them')
    """
    stem, _, suffix = file.rpartition(".")
    if suffix in ("html", "json"):
        return "every table, chart and run" if suffix == "html" else "config, environment and command of every run"
    if suffix in ("md", "csv", "tex"):
        other = FINDING_SUBJECT if stem.startswith(AUDIT_START) else PUBLISHED_SUBJECT
        return TABLE_SUBJECTS.get(stem) or AUDIT_SUBJECTS.get(stem, other)
    return FIGURE_SUBJECTS[stem]
