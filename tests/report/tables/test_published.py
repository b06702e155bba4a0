"""Published tables show each published number, ours beside it, and no verdict without a ground."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dctkd.report.collect import gather
from dctkd.report.layout import Values
from dctkd.report.published import REPORTED
from dctkd.report.tables.published import published_tables
from dctkd.report.tables.rendering import DASH, to_csv, to_latex, to_markdown
from dctkd.store import write_json
from tests.report.conftest import MadeUp

FOLDER = Path(__file__).parents[3] / REPORTED
SMALL_PAIR = "ade20k/resnet50__resnet18/top1_percent"
SIZES = {"ade20k": 2000, "mit67": 1340}


class Scenes(MadeUp):
    """A tree with the published sizes of the test sets, whose weighted rows are `dct`."""

    def _row(self, method):
        return {"method": "dct", "weight": self.weights[method]} if method in self.weights else {}

    def data(self, number):
        return {**super().data(number), "num_test_images": SIZES[self.datasets[number]]}


def tree_of(folder, **changes):
    known = {
        "datasets": ("ade20k", "mit67"),
        "pairs": (("resnet50", "resnet18"), ("resnet50", "mobilenetv2")),
        "methods": ("baseline", "kd", "dct", "fam", "dct+kd", "dct_w2"),
        "weights": {"dct_w2": 2.0},
        "reported": ("p1",),
    }
    return Scenes(folder, **{**known, **changes}).write()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A complete tree that no test changes."""
    return tree_of(tmp_path_factory.mktemp("scenes"))


def tables_of(tree, *, partial=False):
    collected = gather(tree.folder, tree.store, partial=partial)
    return published_tables(collected, Values(collected.frame), folder=FOLDER)


@pytest.fixture(scope="module")
def made(scenes):
    return tables_of(scenes)


def table_of(tables, start):
    return next(table for table in tables if table.columns[0].key.startswith(f"{start}_"))


def cell(tables, start, row, key):
    table = table_of(tables, start)
    (place,) = (i for i, column in enumerate(table.columns) if column.key == f"{start}{key}")
    (found,) = (one.cells[place] for one in table.rows if one.name == row)
    return found


def measured(tree, method, metric="top1_percent"):
    values = []
    for seed in tree.seeds:
        results = json.loads(tree.edge(method, seed).read_text())["results"]
        values += [r["value"] for r in results if (r["metric"], r["stage"], r["split"]) == (metric, "last", "test")]
    return values


def test_there_is_a_table_per_published_dataset_of_the_plan_pair_and_metric(made):
    starts = {name: [table.columns[0].key.removesuffix("_published_name") for table in made[name]] for name in made}
    pairs = ("resnet50__resnet18", "resnet152__resnet34", "resnet50__mobilenetv2")
    assert starts == {
        "p1_ade20k": [f"ade20k/{pair}/top1_percent" for pair in pairs],
        "p1_mit67": [f"mit67/{pair}/top1_percent" for pair in pairs],
        "p1_alpha": [
            f"ade20k/resnet50__resnet18/{metric}" for metric in ("top1_percent", "top5_percent", "mca_all_percent")
        ],
    }


def test_published_rows_come_first_in_published_order_with_the_teacher_before_all(made):
    rows = [row.name for row in table_of(made["p1_ade20k"], SMALL_PAIR).rows]
    alone = ["teacher", "baseline", "at", "pkt", "vid", "crd", "semckd", "dct"]
    assert rows[: len(alone)] == alone
    assert rows[-3:] == ["review", "fam", "dct_w2"]


def test_our_row_that_was_not_published_stands_in_every_table_of_our_pairs(made):
    texts = [
        row.cells[1].text
        for tables in made.values()
        for table in tables
        if "resnet152" not in table.columns[0].key
        for row in table.rows
        if row.name == "fam"
    ]
    assert texts == ["not published"] * 7


def test_every_published_number_is_shown_once(made):
    with (FOLDER / "p1.csv").open() as file:
        lines = list(csv.DictReader(file))
    wanted = sorted(float(line["value"]) for line in lines if line["dataset"] == "MIT67")
    shown = [row.cells[1].value for table in made["p1_mit67"] for row in table.rows if row.cells[1].value is not None]
    assert sorted(shown) == wanted


def test_impossible_accuracy_has_a_dagger(made):
    assert cell(made["p1_ade20k"], SMALL_PAIR, "teacher", "_published").text == "58.34\u2020"


def test_possible_accuracy_has_no_mark(made):
    assert cell(made["p1_ade20k"], SMALL_PAIR, "dct", "_published").text == "47.35"


def test_note_counts_the_impossible_accuracies(made):
    notes = " ".join(made["p1_mit67"][-1].notes)
    assert "36 of the 39 published accuracies on mit67" in notes


def test_number_that_contradicts_its_source_is_marked(tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "sun397", 19850)
    tables = tables_of(tree_of(tmp_path, datasets=("sun397",), methods=("baseline",), seeds=(0,)))["p1_sun397"]
    found = cell(tables, "sun397/resnet50__mobilenetv2/top1_percent", "teacher", "_published")
    assert (found.text, found.value) == ("51.59\u2021", 51.59)
    assert any(note.startswith("\u2021 contradicts") and "61.69" in note for note in tables[-1].notes)
    assert any("every number with so few digits is possible" in note for note in tables[-1].notes)


def test_ours_is_mean_and_t_interval(scenes, made):
    values = measured(scenes, "dct+kd")
    found = cell(made["p1_ade20k"], SMALL_PAIR, "dct+kd", "")
    low, high = stats.t.interval(0.95, df=2, loc=np.mean(values), scale=stats.sem(values))
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((np.mean(values), low, high))
    assert found.text == f"{np.mean(values):.2f} \u00b1 {(high - low) / 2:.2f}"


def test_interval_is_that_of_one_new_run(scenes, made):
    values = measured(scenes, "dct")
    half = stats.t.ppf(0.975, df=2) * np.std(values, ddof=1) * math.sqrt(4 / 3)
    found = cell(made["p1_ade20k"], SMALL_PAIR, "dct", "_prediction_interval")
    expected = (np.mean(values), np.mean(values) - half, np.mean(values) + half)
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx(expected)


def test_difference_is_ours_minus_published(scenes, made):
    found = cell(made["p1_ade20k"], SMALL_PAIR, "dct", "_minus_published_points")
    assert found.value == pytest.approx(np.mean(measured(scenes, "dct")) - 47.35)
    assert found.text.startswith("+")


def test_published_number_below_the_interval_is_below(made):
    assert cell(made["p1_ade20k"], SMALL_PAIR, "dct", "_verdict").text == "below"


def test_mca_is_compared_over_all_classes(scenes, made):
    found = cell(made["p1_alpha"], "ade20k/resnet50__resnet18/mca_all_percent", "dct_w2", "")
    assert found.value == pytest.approx(np.mean(measured(scenes, "dct_w2", "mca_all_percent")))


def test_weight_stands_beside_the_row_of_that_weight(made):
    found = [cell(made["p1_alpha"], SMALL_PAIR, "dct_w2", key) for key in ("_published_name", "_published")]
    assert [one.text for one in found] == ["DCT alpha=2", "48.26\u2020"]


def test_released_meter_is_the_mean_over_batches_of_256_in_official_order(scenes, made):
    shares = []
    for seed in scenes.seeds:
        frame = pd.read_parquet(scenes.run_folder("dct", seed).path / "predictions.parquet").sort_values("index")
        is_right = frame["prediction"].eq(frame["target"]).groupby(frame["index"] // 256).mean()
        shares.append(100 * is_right.mean())
    found = cell(made["p1_ade20k"], SMALL_PAIR, "dct", "_released_meter")
    assert found.value == pytest.approx(np.mean(shares))
    assert abs(found.value - np.mean(measured(scenes, "dct"))) > 1e-3


def test_released_meter_does_not_depend_on_the_order_of_the_file(tmp_path, made):
    tree = tree_of(tmp_path)
    for seed in tree.seeds:
        path = tree.run_folder("dct", seed).path / "predictions.parquet"
        pd.read_parquet(path).sort_values("prediction").to_parquet(path, index=False)
    before, after = (cell(one["p1_ade20k"], SMALL_PAIR, "dct", "_released_meter") for one in (made, tables_of(tree)))
    assert after == before


def test_released_meter_is_for_top1_alone(made):
    keys = [column.key for table in made["p1_alpha"] for column in table.columns]
    assert [key for key in keys if key.endswith("_released_meter")] == [f"{SMALL_PAIR}_released_meter"]


@pytest.mark.parametrize(
    ("start", "row"), [(SMALL_PAIR, "vid"), (SMALL_PAIR.replace("50__resnet18", "152__resnet34"), "kd")]
)
def test_what_was_not_run_is_a_dash(made, start, row):
    keys = ("", "_seeds", "_minus_published_points", "_prediction_interval", "_released_meter")
    cells = [cell(made["p1_ade20k"], start, row, key) for key in keys]
    assert [(one.text, one.value) for one in cells] == [(DASH, None)] * 5
    assert cell(made["p1_ade20k"], start, row, "_verdict").text == "not run"


def test_weight_that_was_not_run_keeps_its_published_number(made):
    assert cell(made["p1_alpha"], SMALL_PAIR, "dct, weight 0.7", "_published").text == "47.42\u2020"


def test_one_run_gives_no_verdict(made):
    found = [cell(made["p1_ade20k"], SMALL_PAIR, "teacher", key).text for key in ("_verdict", "_seeds")]
    assert found == ["n = 1, no verdict", "1/1"]


def test_other_test_set_is_not_compared(tmp_path):
    tree = tree_of(tmp_path, datasets=("ade20k",))
    write_json(tree.folder / "ade20k" / "data.json", {**tree.data(0), "num_test_images": 1999})
    tables = tables_of(tree)["p1_ade20k"]
    found = [cell(tables, SMALL_PAIR, "dct", key).text for key in ("_verdict", "_minus_published_points")]
    assert found == ["other test set", DASH]
    assert "ours of ade20k has 1,999 images, the published one 2,000" in " ".join(tables[-1].notes)


def test_test_set_of_unknown_size_is_not_compared(tmp_path):
    tree = tree_of(tmp_path, datasets=("ade20k",))
    (tree.folder / "ade20k" / "data.json").unlink()
    assert cell(tables_of(tree)["p1_ade20k"], SMALL_PAIR, "dct", "_verdict").text == "test set not known"


def test_missing_and_failed_seeds_are_counted(tmp_path):
    failures = {("kd", 0): "diverged", ("fam", 0): "oom", ("fam", 1): "oom", ("fam", 2): "oom"}
    tables = tables_of(tree_of(tmp_path, absent=frozenset({("dct", 1)}), failures=failures), partial=True)["p1_ade20k"]
    assert [cell(tables, SMALL_PAIR, row, "_seeds").text for row in ("dct", "kd", "fam")] == ["2/3", "2/3", "0/3"]
    assert cell(tables, SMALL_PAIR, "kd", "").text.endswith("(1 div.)")
    assert cell(tables, SMALL_PAIR, "fam", "").text == "3 oom"


def test_published_row_whose_runs_all_failed_has_no_result(tmp_path):
    failures = {("kd", seed): "diverged" for seed in (0, 1, 2)}
    tables = tables_of(tree_of(tmp_path, failures=failures))["p1_ade20k"]
    assert cell(tables, SMALL_PAIR, "kd", "_verdict").text == "no result"


def test_row_with_settings_of_its_own_is_named(tmp_path):
    tree = tree_of(tmp_path, weights={"dct": 0.25, "dct_w2": 2.0}, seeds=(0,))
    assert "Rows with settings of their own: dct (weight 0.25)." in tables_of(tree)["p1_ade20k"][-1].notes


def test_notes_name_source_and_commit(made):
    notes = " ".join(made["p1_alpha"][-1].notes)
    assert "AblationAlfaFigure.py@3d70d15" in notes
    assert "arXiv:2205.01997" in notes


def test_experiment_that_asks_for_nothing_has_no_table(small):
    assert tables_of(small) == {}


@pytest.mark.parametrize("name", ["p1_ade20k", "p1_mit67", "p1_alpha"])
def test_cells_of_a_file_have_keys_of_their_own(made, name):
    rows = list(csv.DictReader(to_csv(made[name]).splitlines()))
    assert len({(row["row"], row["column"]) for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("form", "dagger"), [(to_markdown, "\u2020"), (lambda tables: to_latex(tables, "p1"), r"\dag{}")]
)
def test_tables_can_be_rendered(made, form, dagger):
    assert form(made["p1_alpha"]).count(f"48.26{dagger}") == 1


def test_teacher_comes_first_whatever_the_published_order(scenes, tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "reported")
    head, *lines = (folder / "p1.csv").read_text().splitlines()
    (folder / "p1.csv").write_text("\n".join([head, *reversed(lines)]) + "\n")
    collected = gather(scenes.folder, scenes.store)
    made = published_tables(collected, Values(collected.frame), folder=folder)
    assert [row.name for row in table_of(made["p1_ade20k"], SMALL_PAIR).rows][:2] == ["teacher", "dct+kd"]
