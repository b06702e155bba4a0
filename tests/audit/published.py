"""Numbers of P1 as they stand in paper_tables/reported/p1.csv."""

import csv
from pathlib import Path

from dctkd.report.published import REPORTED

PATH = Path(__file__).parents[2] / REPORTED / "p1.csv"


def published(**wanted):
    """Return the values of the lines with these cells, as text."""
    lines = csv.DictReader(PATH.read_text().splitlines())
    return [line["value"] for line in lines if all(line[key] == value for key, value in wanted.items())]


def number(dataset, teacher, student, method):
    """Return one top-1 of the README's tables."""
    (value,) = published(
        table="README Results", dataset=dataset, teacher=teacher, student=student, method=method, metric="Top1"
    )
    return float(value)
