"""From the files of finished runs to tidy results, tables and figures. Reads files only; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dctkd.plan import Plan

TABLES = ("accuracy", "cost", "overlap", "attention")
FIGURES = ("accuracy", "accuracy_vs_gmacs", "overlap_by_stage", "accuracy_vs_overlap", "spectra", "montage")
TABLE_SUFFIXES = ("md", "csv", "tex")
FIGURE_SUFFIXES = ("pdf", "png", "svg")


def report_files(plan: Plan) -> tuple[str, ...]:
    """Return the names of the files that `build` writes into its target folder; the same for every plan."""
    return _named(TABLES, TABLE_SUFFIXES) + _named(FIGURES, FIGURE_SUFFIXES)


def _named(stems: Sequence[str], suffixes: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{stem}.{suffix}" for stem in stems for suffix in suffixes)


def build(experiment_dir: Path, store: Path, target: Path, *, partial: bool = False) -> list[Path]:
    """Write tidy.parquet into the experiment's folder, and its tables and figures into the target folder.

    Each file is whole or not written; the same results give the same bytes.

    Args:
        experiment_dir: `results/<experiment>`, which holds plan.json and the published results.
        store: `results/store`.
        target: `paper_tables/<experiment>`; made if missing.
        partial: Use what there is: runs may be missing (the tables say so), and finished runs need not be published.

    Returns:
        The paths of all files written.

    Raises:
        InputError: If a file is not whole or contradicts the plan, or, without `partial`, if runs are missing.
    """
    from dctkd.report.attention_figures import attention_figures
    from dctkd.report.collect import gather, write_tidy  # here: pandas takes a second to import, seaborn another
    from dctkd.report.figures import accuracy_figures, write_figures
    from dctkd.report.tables import write_tables

    collected = gather(experiment_dir, store, partial=partial)
    tidy = experiment_dir / "tidy.parquet"
    write_tidy(collected.frame, tidy)
    drawings = {**accuracy_figures(collected), **attention_figures(collected, store)}
    return [tidy, *write_tables(collected, target), *write_figures(drawings, target)]
