"""From the files of finished runs to tidy results, tables, figures and a page. Reads files only; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd.late_files import latency_of, patiently

if TYPE_CHECKING:
    import pandas as pd

    from dctkd.plan import Plan

TABLES = ("accuracy", "comparison", "cost", "overlap", "attention")
FIGURES = (
    "accuracy",
    "accuracy_vs_gmacs",
    "accuracy_vs_training_cost",
    "learning_curves",
    "overlap_by_stage",
    "accuracy_vs_overlap",
    "spectra",
    "montage",
)
TABLE_SUFFIXES = ("md", "csv", "tex")
FIGURE_SUFFIXES = ("pdf", "png", "svg")
PAGE_FILE = "index.html"
RUNS_FILE = "runs.json"


def table_names(plan: Plan) -> tuple[str, ...]:
    """Return the names of an experiment's files of tables: those that each has, and those that it asks for."""
    from dctkd.report.audit.findings import audit_table_names
    from dctkd.report.published import published_table_ids

    return (*TABLES, *audit_table_names(plan), *published_table_ids(plan))


def figure_names(plan: Plan) -> tuple[str, ...]:
    """Return the names of an experiment's figures: some need several datasets or pairs, or rows that vary a weight."""
    from dctkd.report.statistics import MIN_BLOCKS, MIN_METHODS
    from dctkd.report.sweeps import sweeps

    num_blocks = len(plan.config.datasets) * len(plan.config.pairs)
    ranks = ("critical_difference",) if num_blocks >= MIN_BLOCKS and len(plan.config.methods) >= MIN_METHODS else ()
    return (*FIGURES, *ranks, *(("weight_ablation",) if sweeps(plan) else ()))


def report_files(plan: Plan) -> tuple[str, ...]:
    """Return the names of the files that `build` writes into its target folder; they depend on the plan alone."""
    tables = _named(table_names(plan), TABLE_SUFFIXES)
    return (*tables, *_named(figure_names(plan), FIGURE_SUFFIXES), RUNS_FILE, PAGE_FILE)


def _named(stems: Sequence[str], suffixes: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{stem}.{suffix}" for stem in stems for suffix in suffixes)


def load(experiment_dir: str | Path) -> pd.DataFrame:
    """Return the results of an experiment as a tidy table, one row per run, metric, stage and split.

    Only what is finished is in it; columns are described in `dctkd.report.collect`.

    Args:
        experiment_dir: `results/<experiment>`; the runs' other files are read from `store` beside it.

    Raises:
        InputError: If there is no plan.json, or a file is not whole.
    """
    from dctkd.report.collect import collect

    folder = Path(experiment_dir)
    return collect(folder, folder.parent / "store", partial=True)


def compare(a: str, b: str, results: str | Path = "results", experiment: str | None = None) -> str:
    """Return a paired comparison of two methods, or of two experiments, as Markdown.

    Args:
        a: Name of a method, or folder `results/<experiment>`.
        b: The same kind of thing.
        results: The results folder, where the experiment of two methods is looked for.
        experiment: Name of the experiment whose methods are compared; None: the only one there is.

    Raises:
        InputError: If there is no such method or experiment, or nothing to compare.
    """
    from dctkd.report.tables.rendering import to_markdown
    from dctkd.report.versus import compare_experiments, compare_methods, find_experiment

    folders = [Path(name) for name in (a, b) if (Path(name) / "plan.json").is_file()]
    if len(folders) == 2:
        return to_markdown([compare_experiments(*folders)])
    return to_markdown([compare_methods(find_experiment(Path(results), experiment), a, b)])


def build(experiment_dir: Path, store: Path, target: Path, *, partial: bool = False, workers: int = 1) -> list[Path]:
    """Write tidy.parquet into the experiment's folder, and its tables, figures and page into the target folder.

    Each file is whole or not written; the same results give the same bytes.

    Args:
        experiment_dir: `results/<experiment>`, which holds plan.json and the published results.
        store: `results/store`.
        target: `paper_tables/<experiment>`; made if missing.
        partial: Use what there is: runs may be missing (the tables say so), and finished runs need not be published.
        workers: Processes that draw figures; changes the time, never a byte.

    Returns:
        The paths of all files written.

    Raises:
        InputError: If a file is not whole or contradicts the plan, or, without `partial`, if runs are missing.
    """
    from dctkd.report.drawing import draw_figures, start_drawing

    start_drawing(workers=workers)
    from dctkd.report.collect import gather, write_tidy  # here: pandas takes a second to import, seaborn another
    from dctkd.report.page import write_page
    from dctkd.report.tables import make_tables, write_tables

    latency_s = 0.0 if partial else latency_of(experiment_dir)
    collected = patiently(lambda: gather(experiment_dir, store, partial=partial), experiment_dir, latency_s)
    tables = make_tables(collected)
    tidy = experiment_dir / "tidy.parquet"
    write_tidy(collected.frame, tidy)
    written = [tidy, *write_tables(tables, target), *draw_figures(collected, store, target, workers=workers)]
    return [*written, *write_page(collected, tables, target)]
