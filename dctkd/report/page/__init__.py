"""The page of an experiment: every table, chart and run in one self-contained HTML file that works from disk, offline.

The file fetches nothing. A content security policy that names the hashes of its own scripts keeps every other script
from running, also one that came in with a class name. plotly.js lies in it compressed and is unpacked by the browser.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from dctkd.provenance import write_atomic
from dctkd.report import PAGE_FILE, RUNS_FILE
from dctkd.report.captions import common_notes, coverage_text
from dctkd.report.collect import Collected
from dctkd.report.edges import rerun_command
from dctkd.report.layout import TOP1
from dctkd.report.page.charts import make_charts
from dctkd.report.page.classes import describe_classes
from dctkd.report.runs import describe_runs
from dctkd.report.subjects import AUDIT_SUBJECTS, FINDING_SUBJECT, subject_of
from dctkd.report.tables.rendering import DASH, Cell, Column, Table, TableRow

PICTURES: Mapping[str, Sequence[str]] = {
    "comparison": ("critical_difference",),
    "ablation": ("weight_ablation",),
    "attention": ("montage", "overlap_by_stage", "spectra"),
}
"""Static pictures of each section by the name of their file; those that are not there are left out."""

CHARTS: Mapping[str, Sequence[str]] = {
    "accuracy": ("accuracy", "learning-curves"),
    "cost": ("training-cost",),
    "attention": ("overlap",),
}
TITLES: Mapping[str, str] = {
    "accuracy": "Accuracy",
    "comparison": "Comparison",
    "audit": "Audit of released code",
    "reported": "Beside published numbers",
    "ablation": "Ablation of the weight",
    "cost": "Cost",
    "attention": "Where they look",
    "classes": "Classes",
    "runs": "Runs",
}
SECTION_OF_TABLE: Mapping[str, str] = {"accuracy": "accuracy", "comparison": "comparison", "cost": "cost"}
"""Section of each file of tables; the rest is told by `_section_of`."""

AUDIT_TABLES = (*AUDIT_SUBJECTS.values(), FINDING_SUBJECT)


@dataclass
class Section:
    """One section of the page."""

    id: str
    title: str
    tables: list[Mapping[str, Any]] = field(default_factory=list)
    charts: list[Mapping[str, Any]] = field(default_factory=list)
    pictures: list[Mapping[str, str]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.tables or self.charts or self.pictures)


def write_page(collected: Collected, tables: Mapping[str, Sequence[Table]], target: Path) -> list[Path]:
    """Write runs.json and index.html into a folder that holds the figures, and return their paths.

    Args:
        collected: The experiment.
        tables: All tables by the name of their file, as `make_tables` returns them.
        target: The folder.
    """
    runs = describe_runs(collected)
    write_atomic(target / RUNS_FILE, json.dumps(runs, indent=1, allow_nan=False) + "\n")
    write_atomic(target / PAGE_FILE, render_page(collected, tables, runs, target))
    return [target / RUNS_FILE, target / PAGE_FILE]


def render_page(
    collected: Collected, tables: Mapping[str, Sequence[Table]], runs: Mapping[str, Any], pictures: Path
) -> str:
    """Return the text of the page.

    Args:
        collected: The experiment.
        tables: All tables by the name of their file.
        runs: Content of runs.json.
        pictures: Folder that holds the figures as .png.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    charts = make_charts(collected)
    classes = describe_classes(collected)
    positions = {run["digest"]: number for number, run in enumerate(runs["runs"])}
    sections = _sections(collected, tables, charts, positions, pictures)
    script = _template_text("page.js")
    plotly = plotly_source()
    shown = {key for key, section in sections.items() if not section.is_empty or (key == "classes" and classes)}
    notes = common_notes(collected)
    environment = Environment(
        loader=PackageLoader("dctkd.report.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        name=collected.plan.name,
        title=collected.plan.config.title,
        facts=[coverage_text(collected), *notes[1:]],
        command=rerun_command(collected.plan),
        sections=[section for key, section in sections.items() if key in shown],
        data={"runs": runs, "charts": charts, "classes": classes},
        css=_safe(_template_text("page.css")),
        script=_safe(script),
        script_hashes=" ".join(f"'sha256-{_sha256_base64(text)}'" for text in (script, plotly)),
        plotly_gzip_base64=base64.b64encode(gzip.compress(plotly.encode(), mtime=0)).decode(),
        RUNS_FILE=RUNS_FILE,
    )


def plotly_source() -> str:
    """Return the source of plotly.js that comes with the plotly package."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _sections(
    collected: Collected,
    tables: Mapping[str, Sequence[Table]],
    charts: Sequence[Mapping[str, Any]],
    positions: Mapping[str, int],
    pictures: Path,
) -> dict[str, Section]:
    sections = {key: Section(key, title) for key, title in TITLES.items()}
    for name, made in tables.items():
        sections[_section_of(name)].tables += [_table(table, positions) for table in made]
    sections["runs"].tables.append(_table(runs_table(collected), positions))
    for key, wanted in CHARTS.items():
        sections[key].charts += [chart for chart in charts if chart["id"] in wanted]
    for key, names in PICTURES.items():
        for path in (pictures / f"{name}.png" for name in names):
            if path.is_file():
                png = base64.b64encode(path.read_bytes()).decode()
                sections[key].pictures.append({"caption": subject_of(path.name), "file": path.name, "png": png})
    return sections


def _section_of(table: str) -> str:
    if table in ("overlap", "attention"):
        return "attention"
    return SECTION_OF_TABLE.get(table, "audit" if subject_of(f"{table}.csv") in AUDIT_TABLES else "reported")


def runs_table(collected: Collected) -> Table:
    """Return one row per run: where it is published, its seed, how it ended, its accuracy and its digest."""
    rows = []
    for one in collected.found:
        metrics, runs = one.metrics, (one.metrics.digest,)
        accuracy = next(
            (r.value for r in metrics.results if (r.metric, r.stage, r.split) == (TOP1.metric, TOP1.stage, TOP1.split)),
            None,
        )
        timing = collected.timings.get(metrics.digest, {})
        seconds = timing.get("train_seconds")
        cells = (
            Cell(str(one.planned.seed), one.planned.seed),
            Cell(metrics.status),
            Cell(f"{accuracy:.2f}", accuracy) if accuracy is not None else Cell(),
            Cell(f"{seconds:,.1f}", seconds) if seconds is not None else Cell(),
            Cell(metrics.digest, runs=runs),
        )
        rows.append(TableRow(one.planned.path.removeprefix(f"{collected.plan.name}/").rpartition("/")[0], cells))
    columns = ("seed", "status", "top-1 (%)", "training steps (s)", "run (click to open)")
    notes = (
        "Seconds: the run's own steps and one teacher pass per step; beside others in a pack they are not comparable.",
        f"{DASH} stands where there is no number. Files of a run: results/store/<run>/.",
    )
    return Table("runs", tuple(Column(text, text) for text in columns), tuple(rows), corner="run", notes=notes)


def _table(table: Table, positions: Mapping[str, int]) -> Mapping[str, Any]:
    rows = [
        {
            "name": row.name,
            "cells": [
                {
                    "text": cell.text,
                    "value": cell.value,
                    "is_bold": cell.is_bold,
                    "runs": " ".join(str(positions[digest]) for digest in cell.runs if digest in positions),
                }
                for cell in row.cells
            ],
        }
        for row in table.rows
    ]
    labels = [column.label for column in table.columns]
    return {"title": table.title, "corner": table.corner, "labels": labels, "rows": rows, "notes": table.notes}


def _template_text(name: str) -> str:
    return resources.files("dctkd.report.page").joinpath("templates", name).read_text(encoding="utf-8")


def _safe(text: str) -> Any:
    """Mark our own style or script as safe to embed as it is."""
    from markupsafe import Markup

    assert "</s" not in text  # would end the element it stands in
    return Markup(text)


def _sha256_base64(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
