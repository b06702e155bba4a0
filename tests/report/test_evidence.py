"""Files that a run leaves beside its metrics are read as they are, or refused by name."""

import numpy as np
import pytest

from dctkd.errors import InputError
from dctkd.report import load
from dctkd.report.collect import gather
from dctkd.report.evidence import Evidence, Predictions
from dctkd.report.page.charts import make_charts
from dctkd.report.page.classes import count_confusions, describe_classes
from dctkd.report.runs import describe_runs


def predictions(target, prediction):
    index = np.arange(len(target), dtype=np.int32)
    return Predictions(index, np.array(target, np.int32), np.array(prediction, np.int32))


def test_right_images_are_counted_by_class():
    right_K, images_K = predictions([0, 0, 2, 2, 2], [0, 1, 2, 2, -1]).right_and_images(4)
    assert (right_K.tolist(), images_K.tolist()) == ([1, 0, 2, 0], [2, 0, 3, 0])


def test_confusions_are_counted_over_runs_most_frequent_first():
    runs = [predictions([0, 1, 1], [0, 0, -1]), predictions([0, 1, 1], [0, 0, 1])]
    assert count_confusions(runs, 2).tolist() == [[0, 0, 2], [1, 0, 2], [1, -1, 1], [1, 1, 1]]


def test_missing_files_are_none_and_torn_ones_are_named(small, tmp_path):
    assert Evidence(None).predictions("abc") is None
    assert Evidence(tmp_path).history("abc") is None
    (tmp_path / "abc").mkdir()
    for name in ("predictions.parquet", "history.jsonl"):
        (tmp_path / "abc" / name).write_text("{torn")
    with pytest.raises(InputError, match=r"predictions\.parquet: not whole"):
        Evidence(tmp_path).predictions("abc")
    with pytest.raises(InputError, match=r"history\.jsonl: not whole"):
        Evidence(tmp_path).history("abc")


def test_accuracy_of_classes_is_that_of_the_predictions(small):
    (group,) = describe_classes(gather(small.folder, small.store))
    method = next(one for one in group["methods"] if one["method"] == "kd")
    frames = [Evidence(small.store).predictions(small.run_folder("kd", seed).digest) for seed in small.seeds]
    right = [np.mean([(f.prediction_N[f.target_N == k] == k).mean() for f in frames]) for k in range(4)]
    assert method["accuracy_percent"] == [round(100 * share, 1) for share in right]
    assert group["classes"] == ["attic", "bakery", "canal", "desert"]
    assert group["num_images"] == [250] * 4
    assert sum(number for _, _, number in method["confusion"]) == 3000


def test_experiment_without_predictions_has_no_classes(made_up):
    tree = made_up()
    for path in tree.store.glob("*/predictions.parquet"):
        path.unlink()
    assert describe_classes(gather(tree.folder, tree.store)) == []


def test_every_run_is_described_with_config_environment_and_command(small):
    described = describe_runs(gather(small.folder, small.store))
    assert len(described["runs"]) == 13
    assert len(described["environments"]) == 1
    run = next(one for one in described["runs"] if (one["method"], one["seed"]) == ("at", 1))
    assert run["digest"] == small.run_folder("at", 1).digest
    assert run["command"] == (
        "snakemake results/madeup/scenes/wide__narrow/at/seed1/metrics.json --cores all --configfile config/madeup.yaml"
    )
    assert f"spec: {run['spec']}" in run["config"]


def test_description_of_runs_names_no_host_and_no_time(made_up):
    environment = {"git_commit": "f" * 40, "hostname": "secret", "started": "2026-01-01", "platform": {"device": "cpu"}}
    tree = made_up(environment=lambda _: environment)
    described = describe_runs(gather(tree.folder, tree.store))
    assert described["environments"] == [{"git_commit": "f" * 40, "platform": {"device": "cpu"}}]


def test_charts_are_specifications_that_plotly_accepts(wide):
    go = pytest.importorskip("plotly.graph_objects")
    charts = make_charts(gather(wide.folder, wide.store))
    assert {chart["id"] for chart in charts} == {"accuracy", "training-cost", "learning-curves", "overlap"}
    for chart in charts:
        assert len(chart["figures"]) == 9
        go.Figure({"data": chart["figures"][0]["data"], "layout": chart["figures"][0]["layout"]})


def test_points_of_runs_carry_their_digests(small):
    (figure,) = next(c for c in make_charts(gather(small.folder, small.store)) if c["id"] == "accuracy")["figures"]
    carried = {digest for trace in figure["data"] for digest in trace.get("customdata", ())}
    assert {small.run_folder("kd", seed).digest for seed in small.seeds} <= carried


def test_load_returns_the_tidy_table_of_what_is_finished(made_up):
    tree = made_up(absent=frozenset({("kd", 1)}))
    frame = load(str(tree.folder))
    top1 = frame[(frame["metric"] == "top1_percent") & (frame["stage"] == "last") & (frame["split"] == "test")]
    assert len(top1) == 12
    assert set(top1["method"]) == {"teacher", *tree.methods}
