"""The tables of an experiment, by the name of their file; how a table looks is in rendering.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dctkd.provenance import write_atomic
from dctkd.report.captions import commits_text
from dctkd.report.collect import Collected
from dctkd.report.layout import Values
from dctkd.report.tables.accuracy import accuracy_tables
from dctkd.report.tables.attention import attention_tables, overlap_tables
from dctkd.report.tables.audit import audit_tables
from dctkd.report.tables.comparison import comparison_tables
from dctkd.report.tables.cost import cost_tables
from dctkd.report.tables.published import published_tables
from dctkd.report.tables.rendering import Table, to_csv, to_latex, to_markdown


def make_tables(collected: Collected) -> dict[str, list[Table]]:
    """Return the tables of each file; which there are is told by `dctkd.report.table_names`."""
    values = Values(collected.frame)
    made = {
        "accuracy": accuracy_tables(collected, values),
        "comparison": comparison_tables(collected, values),
        "cost": cost_tables(collected, values),
        "overlap": overlap_tables(collected, values),
        "attention": attention_tables(collected, values),
        **audit_tables(collected, values),
        **published_tables(collected, values),
    }
    experiment, commits = collected.plan.name, commits_text(collected)
    return {
        name: [replace(t, title=f"{experiment}: {t.title}", experiment=experiment, commits=commits) for t in tables]
        for name, tables in made.items()
    }


def write_tables(made: Mapping[str, Sequence[Table]], target: Path) -> list[Path]:
    """Write tables as .md, .csv and .tex into a folder, each whole or not at all, and return the paths.

    Args:
        made: Tables by the name of their file, as `make_tables` returns them.
        target: The folder.
    """
    paths: list[Path] = []
    for name, tables in made.items():
        texts = {
            "md": to_markdown(tables),
            "csv": to_csv(tables),
            "tex": to_latex(tables, f"{tables[0].experiment}-{name}"),
        }
        for suffix, text in texts.items():
            write_atomic(target / f"{name}.{suffix}", text)
            paths.append(target / f"{name}.{suffix}")
    return paths
