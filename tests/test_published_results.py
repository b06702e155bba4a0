"""Every number of the README's table of results can be followed to the runs that made it, and to what made them."""

import csv
import json
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml

from dctkd.config import load
from dctkd.identity import Identity
from dctkd.plan import make_plan
from dctkd.store import digest_of

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
FOLDERS = sorted(RESULTS.iterdir())
SHOWN = RESULTS / "miniplaces-cpu"
COLUMNS = {
    1: ("accuracy", "top1_percent"),
    2: ("accuracy", "top1_minus_baseline_points"),
    3: ("overlap", "overlap_ssim_mean"),
}
"""Column of the README's table: file of tables, and end of the column's key."""


def table_of_the_readme():
    """Yield (method, column, text) of each number of the table under "A result"."""
    section = (ROOT / "README.md").read_text().partition("## A result")[2].partition("\n## ")[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if not cells or cells[0] in ("method", "---"):
            continue
        for column, text in enumerate(cells[1:], start=1):
            if text:
                yield cells[0], column, text


def rows_of(folder, name):
    return list(csv.DictReader((folder / f"{name}.csv").read_text().splitlines()))


def runs_of(folder):
    return {run["digest"]: run for run in json.loads((folder / "runs.json").read_text())["runs"]}


NUMBERS = list(table_of_the_readme())


def row_behind(method, column):
    name, key = COLUMNS[column]
    method = method.removesuffix(" (n = 1)")
    found = [row for row in rows_of(SHOWN, name) if row["row"] == method and row["column"].endswith(f"/{key}")]
    assert len(found) == 1
    return found[0]


def test_table_of_the_readme_is_read():
    assert len(NUMBERS) == 18


@pytest.mark.parametrize(("method", "column", "text"), NUMBERS, ids=lambda value: str(value).replace(" ", ""))
def test_number_of_the_readme_is_that_of_the_csv_file_and_of_its_runs(method, column, text):
    row = row_behind(method, column)
    shown = re.fullmatch(r"([+-]?[\d.]+)(?: \u00b1 ([\d.]+))?", text)
    decimals = len(shown[1].partition(".")[2])
    assert shown[1].lstrip("+") == f"{float(row['value']):.{decimals}f}"
    if shown[2]:
        assert shown[2] == f"{(float(row['ci_high']) - float(row['ci_low'])) / 2:.{decimals}f}"
    runs = runs_of(SHOWN)
    assert row["runs"].split()
    assert set(row["runs"].split()) <= runs.keys()
    if COLUMNS[column][1] == "top1_percent":
        values = [
            next(r["value"] for r in runs[digest]["results"] if (r["metric"], r["stage"]) == ("top1_percent", "last"))
            for digest in row["runs"].split()
        ]
        assert float(row["value"]) == pytest.approx(sum(values) / len(values), rel=1e-12)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_run_has_the_digest_that_its_config_gives_and_a_command_that_names_it(folder):
    for digest, run in runs_of(folder).items():
        config = yaml.load(run["config"], Loader=yaml.CSafeLoader)
        assert Identity.model_validate(config["identity"]).spec == run["spec"]
        known = {"fingerprint": config["dataset_fingerprint"], "teacher": config["teacher_digest"]}
        assert digest_of(run["spec"], **known, precision=config["precision"], weights=None) == digest
        target, *shown = file_and_settings(run)
        assert target == f"results/{run['path']}"
        experiment = experiment_of(*shown)
        assert run["path"].startswith(f"{experiment.experiment}/")
        assert run["method"] in ("teacher", *experiment.methods)
        assert run["seed"] in experiment.seeds


def file_and_settings(run):
    """Return what a run's command makes, its experiment file, and what it sets."""
    words = shlex.split(run["command"])
    settings = words[words.index("--config") + 1 :] if "--config" in words else []
    return words[1], words[words.index("--configfile") + 1], *settings


@cache
def experiment_of(config_file, *settings):
    return load(ROOT / config_file, dict(setting.split("=") for setting in settings))


@cache
def plan_of(config_file, *settings):
    experiment = experiment_of(config_file, *settings)
    if any(model.weights for model in experiment.models.values()):
        pytest.skip(f"{config_file} starts from weights that are not published")
    return make_plan(experiment, config_file=config_file)


def versions_of(identity):
    method = identity["method"] or {}
    return identity["engine_results_version"], identity["data"]["results_version"], method.get("results_version")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_run_has_the_spec_that_its_experiment_gives_today_unless_a_results_version_was_raised(folder):
    for run in runs_of(folder).values():
        today = plan_of(*file_and_settings(run)[1:]).at(run["path"])
        published = yaml.load(run["config"], Loader=yaml.CSafeLoader)["identity"]
        if versions_of(today.identity) == versions_of(published):
            assert today.spec == run["spec"], f"{run['path']} would be trained again"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_published_tables_name_only_runs_that_are_described(folder):
    runs = runs_of(folder)
    for path in sorted(folder.glob("*.csv")):
        for row in rows_of(folder, path.stem):
            assert set(row["runs"].split()) <= runs.keys(), path


AUDIT = RESULTS / "audit-headline"
LABELS = {
    "dct": "DCT minus maps, tuned",
    "dct_main": "main branch's Re DFT minus maps, tuned",
    "dct_release": "released |Re DFT| minus maps, tuned",
    "dft_magnitude": "|DFT| minus maps, tuned",
}


def table_of_the_audit():
    """Yield (method, accuracy, difference) of each row of the README's table under "The audit"."""
    section = (ROOT / "README.md").read_text().partition("## The audit")[2].partition("\n## ")[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and "`" in cells[0]:
            yield re.search(r"`(\w+)`", cells[0])[1], cells[1], cells[2]


def test_numbers_of_the_audit_in_the_readme_are_those_of_its_tables():
    accuracy = {row["row"]: row["text"] for row in rows_of(AUDIT, "accuracy") if row["column"].endswith("top1_percent")}
    effects = rows_of(AUDIT, "audit_q1_transform_or_maps")
    differences = {row["row"]: row["text"] for row in effects if row["column"] == "a_minus_b_points"}
    shown = list(table_of_the_audit())
    assert [method for method, _, _ in shown] == ["map_l2", *LABELS]
    for method, top1, difference in shown:
        assert accuracy[method] == top1
        assert difference == (differences[LABELS[method]] if method in LABELS else "")
