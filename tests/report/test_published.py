"""Published numbers are read whole, matched to our rows, and judged by rules checked by brute force."""

import csv
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from dctkd.errors import InputError
from dctkd.methods import METHODS
from dctkd.report.published import REPORTED, matching_row, published_files, published_table_ids, read_published
from dctkd.report.verdicts import released_top1_percent, verdict

from .conftest import MadeUp

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / REPORTED
SOURCE = "github.com/alexlopezcifuentes/Distillation-Attention:README.md@3d70d15"


def lines_of(name):
    return list(csv.DictReader((FOLDER / name).read_text().splitlines()))


@pytest.mark.parametrize("name", ["p1.csv", "cifar100_imagenet.csv"])
def test_every_published_number_is_finite_and_has_a_source(name):
    bad = [line for line in lines_of(name) if not line["source"] or not math.isfinite(float(line["value"]))]
    assert bad == []


@pytest.mark.parametrize("name", ["p1.csv", "cifar100_imagenet.csv", "p1.yaml"])
def test_published_files_point_at_nothing_outside_the_repository(name):
    text = (FOLDER / name).read_text()
    assert [word for word in ("notes/", "/work", "protocol_") if word in text] == []


def test_p1_has_its_numbers_per_table_and_dataset():
    assert Counter((line["table"], line["dataset"], line["metric"]) for line in lines_of("p1.csv")) == {
        ("README Results", "ADE20K", "Top1"): 45,  # teacher, baseline, kd, 6 methods alone and with kd, 3 pairs
        ("README Results", "SUN397", "Top1"): 39,  # no CKD
        ("README Results", "MIT67", "Top1"): 39,
        ("alpha ablation", "ADE20K", "Top1"): 15,  # 14 weights and the baseline
        ("alpha ablation", "ADE20K", "Top5"): 15,
        ("alpha ablation", "ADE20K", "MCA"): 15,
        ("SoTA alpha search (original alpha)", "ADE20K", "Top1"): 5,
        ("SoTA alpha search", "ADE20K", "Top1"): 1,
    }


def test_rows_of_other_repositories_are_all_there():
    found = Counter(
        (line["source"].split(":")[0].split("/")[-1], line["dataset"]) for line in lines_of("cifar100_imagenet.csv")
    )
    assert found == {
        ("RepDistiller", "CIFAR-100"): 188,
        ("logit-standardization-KD", "CIFAR-100"): 112,
        ("SimKD", "CIFAR-100"): 39,
        ("mdistiller", "CIFAR-100"): 22,
        ("mdistiller", "ImageNet"): 4,
        ("DIST_KD", "CIFAR-100"): 6,
        ("DIST_KD", "ImageNet"): 2,
        ("ReviewKD", "ImageNet"): 4,
    }  # fmt: skip


def test_lines_that_are_left_out_repeat_numbers_that_are_shown():
    shown = {
        (line["dataset"], line["student"], line["method"], line["value"])
        for line in lines_of("p1.csv")
        if line["table"] == "README Results"
    }
    left = [line for line in lines_of("p1.csv") if line["table"].startswith("SoTA") and line["method"] != "Review"]
    assert {(line["dataset"], line["student"], line["method"], line["value"]) for line in left} <= shown
    assert len(left) == 5


def test_methods_are_named_as_in_the_table_of_methods():
    file = read_published("p1", FOLDER).file
    names = {name.removesuffix("+kd") for name in (*file.methods.values(), *file.weighted_methods.values())}
    assert names - set(METHODS) == {"teacher"}


def test_tables_of_p1_have_their_numbers():
    values = read_published("p1", FOLDER).values
    assert {table: len(of_table) for table, of_table in values.items()} == {
        "p1_ade20k": 46,  # and Review
        "p1_sun397": 39,
        "p1_mit67": 39,
        "p1_alpha": 45,
    }


def test_a_number_is_found_under_our_names():
    values = read_published("p1", FOLDER).values["p1_sun397"]
    found = [v.value for v in values if (v.dataset, v.pair, v.row) == ("sun397", "resnet152__resnet34", "dct+kd")]
    assert found == [50.51]


def test_baseline_without_teacher_belongs_to_the_pair_of_its_student():
    values = read_published("p1", FOLDER).values["p1_alpha"]
    found = [(v.pair, v.value) for v in values if (v.row, v.metric) == ("baseline", "mca_all_percent")]
    assert found == [("resnet50__resnet18", 10.24)]


def test_released_meter_counts_a_short_last_batch_as_a_full_one():
    is_right_N = np.array([True, True, True, False, False])
    assert released_top1_percent(is_right_N, 2) == pytest.approx(50.0)  # (2/2 + 1/2 + 0/1) / 3; the accuracy is 60 %


def test_released_meter_is_the_accuracy_where_batches_are_full():
    is_right_N = np.arange(24) % 3 == 0
    assert released_top1_percent(is_right_N, 8) == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("offset", "expected"), [(-1.01, "below"), (-0.99, "inside"), (0.99, "inside"), (1.01, "above")]
)
def test_verdict_is_by_the_prediction_interval(offset, expected):
    ours = [70.0, 71.5, 72.0, 70.9]
    half = stats.t.ppf(0.975, df=3) * np.std(ours, ddof=1) * math.sqrt(1 + 1 / 4)
    assert verdict(np.mean(ours) + offset * half, ours) == expected


def test_one_run_gives_no_verdict():
    assert verdict(70.0, [70.0]) == "n = 1, no verdict"


def test_no_run_is_not_run():
    assert verdict(70.0, []) == "not run"


class Weights(MadeUp):
    """A tree whose weighted rows are `dct`."""

    def _row(self, method):
        return {"method": "dct", "weight": self.weights[method]} if method in self.weights else {}


def row_for(plan, name, table="p1_alpha"):
    value = next(v for v in read_published("p1", FOLDER).values[table] if v.method == name)
    return matching_row(plan, value)


def test_weight_is_matched_to_the_row_of_that_weight_without_kd(tmp_path):
    weights = {"half+kd": 0.5, "half": 0.5, "dct": 2.0}
    plan = Weights(tmp_path, methods=("baseline", "at", *weights), weights=weights).plan()
    names = ("DCT alpha=0.5", "DCT alpha=2", "DCT alpha=0.4")
    assert [row_for(plan, name) for name in names] == ["half", "dct", None]


def test_weight_that_no_file_sets_is_that_of_the_runs(tmp_path):
    tree = Weights(tmp_path, methods=("dct",))
    plan = tree.plan()
    for run in plan.runs:
        run.identity["method"] = {"weight": 1.0}
    assert row_for(plan, "DCT alpha=1") == "dct"


def test_row_that_has_the_name_of_another_method_is_not_matched(tmp_path):
    plan = Weights(tmp_path, methods=("baseline", "at"), weights={"at": 3.0}).plan()
    assert row_for(plan, "AT", "p1_ade20k") is None


def test_tables_are_those_with_a_dataset_of_the_plan(tmp_path):
    tree = MadeUp(tmp_path, datasets=("mit67", "ade20k"), reported=("p1",))
    assert published_table_ids(tree.plan(), FOLDER) == ("p1_ade20k", "p1_mit67", "p1_alpha")


def test_experiment_that_asks_for_nothing_has_no_published_tables(tmp_path):
    assert published_table_ids(MadeUp(tmp_path, datasets=("mit67",)).plan(), FOLDER) == ()


def test_unknown_source_is_refused_with_those_that_there_are(tmp_path):
    plan = MadeUp(tmp_path, reported=("zzz",)).plan()
    with pytest.raises(InputError, match=r"zzz\.yaml: no such file; choose from p1"):
        published_table_ids(plan, FOLDER)


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "reported")
    return tmp_path / "reported"


def change_yaml(folder, change):
    raw = yaml.safe_load((folder / "p1.yaml").read_text())
    change(raw)
    (folder / "p1.yaml").write_text(yaml.safe_dump(raw, allow_unicode=True, sort_keys=False))


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda raw: raw.update(tablez={}), r"p1\.yaml: unknown key 'tablez'; did you mean 'tables'"),
        (lambda raw: raw.pop("paper"), r"p1\.yaml: paper: this key is required"),
        (lambda raw: raw["tables"]["p1_alpha"].pop("rows"), r"tables\.p1_alpha\.rows: this key is required"),
        (lambda raw: raw["released_meter"].update(batch_size=0), r"released_meter\.batch_size: .* got 0"),
        (lambda raw: raw["num_test_images"].pop("mit67"), r"num_test_images must name .* mit67 is missing"),
        (lambda raw: raw["datasets"].pop("SUN397"), r"num_test_images must name .* sun397 is missing or unknown"),
        (lambda raw: raw["networks"].pop("ResNet-152"), r"p1\.csv: line 3: teacher: 'ResNet-152' has no name of ours"),
        (lambda raw: raw["methods"].pop("PKT + KD"), r"p1\.csv: line 32: method: 'PKT \+ KD' has no name of ours"),
        (lambda raw: raw["metrics"].pop("MCA"), r"p1\.csv: line 127: metric: 'MCA' has no name of ours"),
        (lambda raw: raw["left_out"].pop(), r"line 170 of p1\.csv .* is in no table"),
        (lambda raw: raw["tables"]["p1_alpha"]["rows"].append({"table": "no such"}), r"rows\.1: selects no line"),
        (
            lambda raw: raw["tables"]["p1_alpha"]["rows"].append({"table": "README Results", "dataset": "MIT67"}),
            r"tables\.p1_alpha\.rows\.1: takes line 86 of p1\.csv, as tables\.p1_mit67\.rows\.0 does",
        ),
        (lambda raw: raw["tables"].update(accuracy=raw["tables"].pop("p1_alpha")), r"accuracy: must start with p1_"),
        (lambda raw: raw.update(values="../p1.csv"), r"p1\.yaml: values: .* got '\.\./p1\.csv'"),
        (lambda raw: raw.update(values="p3.csv"), r"p3\.csv: cannot be read"),
    ],
)  # fmt: skip
def test_broken_file_is_refused_with_the_place(folder, change, pattern):
    change_yaml(folder, change)
    with pytest.raises(InputError, match=pattern) as caught:
        read_published("p1", folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "pattern"),
    [
        ("Teacher,Top1,58.34", "Teacher,Top1,nan", r"p1\.csv: line 2: value: expected a finite number, got 'nan'"),
        ("Teacher,Top1,58.34", "Teacher,Top1,", r"line 2: value: expected a finite number, got ''"),
        ("Teacher,Top1,58.34", "Teacher,58.34", r"line 2: expected 9 cells"),
        ("DCT alpha=0.1", "DCT alpha=x", r"weight of method 'DCT alpha=x': expected a finite number, got 'x'"),
        ("source,table", "origin,table", r"expected the columns source, table, .* got origin, table"),
        (SOURCE + ",README", ",README", r"line 2: source is empty"),
    ],
)  # fmt: skip
def test_broken_line_is_refused_with_its_number(folder, old, new, pattern):
    path = folder / "p1.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=pattern):
        read_published("p1", folder)


def test_files_that_a_report_depends_on_are_those_of_its_sources(tmp_path):
    plan = MadeUp(tmp_path, datasets=("mit67",), reported=("p1",)).plan()
    assert published_files(plan) == ["paper_tables/reported/p1.yaml", "paper_tables/reported/p1.csv"]
    assert published_files(MadeUp(tmp_path, datasets=("mit67",)).plan()) == []
