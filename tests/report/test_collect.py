"""The tidy table holds what the files hold, under names one can filter by."""

import json
import subprocess
import sys
import textwrap

import pandas as pd
import pytest

from dctkd.errors import InputError
from dctkd.report.collect import COLUMNS, collect, gather, write_tidy
from dctkd.store import write_json


def one(frame, **wanted):
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_every_published_number_is_a_row(small):
    frame = collect(small.folder, small.store)
    published = json.loads(small.edge("at", 2).read_text())
    rows = frame.query("method == 'at' and seed == 2 and split == 'test'")
    expected = {(r["metric"], r["stage"], r["value"], r["unit"]) for r in published["results"] if r["split"] == "test"}
    assert set(rows[["metric", "stage", "value", "unit"]].itertuples(index=False, name=None)) == expected
    assert set(rows.digest) == {published["digest"]}
    assert tuple(frame.columns) == COLUMNS


def test_teacher_stands_under_each_pair_that_uses_it(wide):
    frame = collect(wide.folder, wide.store)
    rows = frame.query("method == 'teacher' and metric == 'top1_percent' and stage == 'last' and split == 'test'")
    of_a = rows[rows.dataset == "a"].set_index("pair")
    assert set(of_a.index) == {"r50__r18", "r50__mobile", "r152__r34"}
    assert of_a.digest["r50__r18"] == of_a.digest["r50__mobile"] != of_a.digest["r152__r34"]


def test_diverged_run_is_a_row_with_its_status_and_epoch(made_up):
    tree = made_up(failures={("kd", 1): "diverged"})
    rows = collect(tree.folder, None).query("method == 'kd' and seed == 1")
    row = one(rows, metric="epochs_trained")
    assert (len(rows), row.status, row.value) == (1, "diverged", 3.0)


def test_timing_of_a_run_alone_has_plain_names(small):
    frame = collect(small.folder, small.store)
    seconds = one(frame, method="kd", seed=2, metric="train_seconds")
    assert (seconds.value, seconds.unit) == (122.5, "s")
    assert one(frame, method="kd", seed=2, metric="peak_memory_bytes").value == 2**29


def test_timing_in_a_pack_is_named_so_and_the_teachers_is_not(made_up):
    tree = made_up(packed=4)
    frame = collect(tree.folder, tree.store)
    metrics = set(frame.query("method == 'kd'").metric)
    assert "train_images_per_second_packed" in metrics
    assert not metrics & {"train_seconds", "train_images_per_second", "peak_memory_bytes"}
    assert one(frame, method="teacher", seed=0, metric="train_seconds").value == 120.5


def test_without_a_store_there_is_no_timing(small):
    assert "train_seconds" not in set(collect(small.folder, None).metric)


def test_costs_are_rows_without_seed_status_and_digest(small):
    frame = collect(small.folder, small.store)
    gmacs = one(frame, method="student", metric="gmacs")
    assert gmacs.value == pytest.approx(0.5)
    assert (pd.isna(gmacs.seed), gmacs.status, gmacs.digest, gmacs.unit) == (True, "", "", "GMACs")
    assert one(frame, method="at", metric="extra_parameters").value == 2000
    assert one(frame, method="at", metric="extra_gmacs").value == pytest.approx(0.004)


def test_costs_stand_with_their_dataset(made_up):
    tree = made_up(datasets=("b", "a"))
    cost = tree.cost()
    cost["models"]["a/narrow"]["parameters"] = 7
    write_json(tree.folder / "cost.json", cost)
    frame = collect(tree.folder, None)
    assert one(frame, dataset="a", method="student", metric="parameters").value == 7
    assert one(frame, dataset="b", method="student", metric="parameters").value == 11_176_512


def test_cost_that_is_no_number_is_refused(made_up):
    tree = made_up()
    write_json(tree.folder / "cost.json", {"models": {"scenes/wide": {"macs": "many"}}})
    with pytest.raises(InputError, match="macs must be a number, got 'many'"):
        collect(tree.folder, None)


def test_missing_cost_is_noted(made_up):
    tree = made_up()
    (tree.folder / "cost.json").unlink()
    assert any("No cost.json" in note for note in gather(tree.folder, tree.store).notes)


def test_broken_timing_is_named_with_the_remedy(made_up):
    tree = made_up()
    (tree.run_folder("kd", 1).path / "timing.json").write_text("{")
    with pytest.raises(InputError, match=r"timing\.json: not whole .*`dctkd store verify --mend"):
        collect(tree.folder, tree.store)


def test_parquet_gives_the_table_back(small, tmp_path):
    frame = collect(small.folder, small.store)
    write_tidy(frame, tmp_path / "new" / "tidy.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "new" / "tidy.parquet"), frame)


@pytest.mark.slow
def test_report_imports_no_torch(small, tmp_path):
    code = f"""
        import sys
        from pathlib import Path
        from dctkd.report import build
        assert "pandas" not in sys.modules, "importing dctkd.report alone must be cheap"
        build(Path({str(small.folder)!r}), Path({str(small.store)!r}), Path({str(tmp_path)!r}))
        heavy = sorted({{"torch", "torchvision", "timm", "snakemake", "matplotlib.pyplot.show"}} & set(sys.modules))
        assert not heavy, heavy
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
