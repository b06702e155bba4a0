"""Where finished students look: measured once, beside each other or alone, and never by training."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import torch

from dctkd.engine import attention, overlap
from dctkd.errors import InputError
from dctkd.metrics import OVERLAP_FOLDER
from dctkd.metrics.overlap import compare_maps
from dctkd.store.seal import write_seal


def edges_of(experiment, *methods):
    runs = [run for run in experiment.plan.runs if not methods or run.method in methods]
    return [(experiment.results / run.path).with_name("overlap.json") for run in runs]


def measure(experiment, *methods):
    overlap.measure_overlap(experiment.plan, edges_of(experiment, *methods), experiment.results, device="cpu")
    return {edge.parts[-3]: json.loads(edge.read_text()) for edge in edges_of(experiment, *methods)}


def measured_files(experiment):
    paths = sorted(experiment.store.path.glob("*/eval/*/*"))
    return {str(p.relative_to(experiment.results)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


@pytest.fixture
def trained(make_experiment, tiny):
    tiny["recipes"]["short"]["precision"] = "float32"
    return make_experiment(tiny).prepare().train()


@pytest.fixture(scope="module")
def shared(make_shared_experiment):
    """Experiment that tests leave as it was, apart from measurements that they may make."""
    return make_shared_experiment("shared", methods={"at": None}, map_sources=["activation"]).prepare().train()


def per_image(experiment, method):
    return pd.read_parquet(experiment.store_folder(method) / OVERLAP_FOLDER / "per_image.parquet")


def test_every_test_image_stage_and_metric_has_a_row(trained):
    measure(trained)
    table = per_image(trained, "at")
    assert list(table.columns) == ["image", "index", "network", "source", "stage", "metric", "value"]
    ssim = table[(table.metric == "ssim") & (table.source == "activation")]
    assert ssim.groupby("stage")["index"].apply(lambda index: sorted(index) == list(range(24))).all()
    assert set(table.source) == {"", "activation", "gradcam"}
    assert {"ssim", "pearson", "mass_on_relevant", "objects_held", "pointing_game", "teacher_correct"} <= set(
        table.metric
    )
    assert np.isfinite(table.value).all()


def test_aggregates_are_means_over_all_images_and_over_those_the_teacher_has_right(trained):
    summary = measure(trained)["at"]
    table = per_image(trained, "at")
    right = table[table.metric == "teacher_correct"].set_index("index")["value"] == 1
    pearson = table[(table.metric == "pearson") & (table.source == "activation") & (table.stage == "stage2")]
    values = pearson.set_index("index")["value"]
    found = {(r["metric"], r["stage"], r["split"]): r["value"] for r in summary["results"]}
    assert found["overlap_pearson", "stage2", "test"] == pytest.approx(values.mean())
    assert 0 < right.sum() < len(right), "the two means must be able to differ"
    expected = values[right[right].index].mean()
    assert found["overlap_pearson", "stage2", "test_teacher_correct"] == pytest.approx(expected)


def test_the_table_holds_what_the_networks_maps_give(trained, monkeypatch):
    seen = []
    original = attention._maps_of

    def spy(model, batch, shape, sources):
        maps, logits_BK = original(model, batch, shape, sources)
        seen.append(maps["activation"][1])
        return maps, logits_BK

    monkeypatch.setattr(attention, "_maps_of", spy)
    measure(trained, "at")
    teacher_BHW, student_BHW = seen
    expected = compare_maps(student_BHW, teacher_BHW)["ssim"]
    table = per_image(trained, "at")
    chosen = (table.metric == "ssim") & (table.source == "activation") & (table.stage == "stage2")
    np.testing.assert_array_equal(table[chosen].sort_values("index")["value"], expected)


def test_the_teacher_s_maps_are_made_once_for_all_students(trained, monkeypatch):
    models = []
    original = attention._maps_of
    monkeypatch.setattr(attention, "_maps_of", lambda *args: models.append(args[0]) or original(*args))
    measure(trained)
    assert len(models) == 1 + 3  # One batch: a teacher and three students.
    assert len({id(model) for model in models}) == 4


def test_measured_together_or_alone_the_files_are_the_same(trained):
    measure(trained)
    together = measured_files(trained)
    for path in trained.store.path.glob("*/eval/*/*"):
        path.unlink()
    for method in ("at", "kd", "baseline"):
        measure(trained, method)
    assert measured_files(trained) == together


def test_values_do_not_depend_on_the_batch_size(trained, monkeypatch):
    measure(trained, "at")
    whole = per_image(trained, "at")
    (trained.store_folder("at") / OVERLAP_FOLDER / "summary.json").unlink()
    monkeypatch.setattr("dctkd.engine.stream.TEST_BATCH_SIZE", 7)
    measure(trained, "at")
    parts = per_image(trained, "at")
    assert whole.drop(columns="value").equals(parts.drop(columns="value"))
    chosen = (whole.source == "activation") & ~whole.metric.isin(["iou_top20", "pointing_game", "objects_held"])
    # Maps are float32 sums; measures that count positions could flip one where two are equal to rounding.
    np.testing.assert_allclose(whole.value[chosen], parts.value[chosen], rtol=1e-3, atol=1e-4)


def test_a_stage_of_one_position_is_left_out(make_experiment, tiny):
    tiny["datasets"]["shapes"]["input"]["crop"] = 32  # The last of four stages has a single position.
    experiment = make_experiment(tiny).prepare().train("kd")
    results = measure(experiment, "kd")["kd"]["results"]
    assert {r["stage"] for r in results if r["metric"] == "overlap_ssim"} == {"stage1", "stage2", "stage3", "mean"}


def test_what_is_measured_is_only_published(trained, monkeypatch):
    first = measure(trained)
    for edge in edges_of(trained):
        edge.unlink()
    monkeypatch.setattr(attention, "measure", lambda *args, **kwargs: pytest.fail("measured again"))
    assert measure(trained) == first


def test_a_torn_summary_is_measured_again_and_nothing_is_trained(trained):
    first, bits = measure(trained), trained.bits()
    (trained.store_folder("at") / OVERLAP_FOLDER / "summary.json").write_text("{")
    assert measure(trained) == first
    assert trained.bits() == bits


@pytest.mark.parametrize("name", ["summary.json", "per_image.parquet", "maps.npz", "spectra.json", "files.json"])
@pytest.mark.parametrize("harm", [lambda path: path.write_bytes(path.read_bytes()[:-1]), lambda path: path.unlink()])
def test_damaged_measurements_are_made_again_and_nothing_is_trained(shared, name, harm):
    first, files, bits = measure(shared), measured_files(shared), shared.bits()
    harm(shared.store_folder("at") / OVERLAP_FOLDER / name)
    assert measured_files(shared) != files
    assert measure(shared) == first
    assert measured_files(shared) == files
    assert shared.bits() == bits


def test_measurements_of_other_weights_are_made_again(shared):
    first, target = measure(shared), shared.store_folder("at") / OVERLAP_FOLDER
    sealed = [path.name for path in target.iterdir() if path.name != "files.json"]
    write_seal(target, sealed, digest=shared.store_folder("at").name, weights_sha256="0" * 64)
    folder = shared.store.folder(shared.store_folder("at").name)
    assert folder.damage_of_measurements(target) == ["it was measured on other weights"]
    assert measure(shared) == first
    assert folder.damage_of_measurements(target) == []


def test_weights_that_are_gone_although_they_were_kept_are_an_error(shared):
    weights = shared.store_folder("at") / "weights.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    with pytest.raises(InputError, match=r"weights\.safetensors is gone.*dctkd store verify --mend"):
        measure(shared)
    weights.write_bytes(content)


def test_another_map_source_is_measured_without_training(trained):
    trained.raw["map_sources"] = ["activation"]
    first, bits = measure(trained, "at"), trained.bits()
    assert not any(result["metric"].startswith("gradcam") for result in first["at"]["results"])
    trained.raw["map_sources"] = ["activation", "gradcam"]
    assert any(result["metric"].startswith("gradcam") for result in measure(trained, "at")["at"]["results"])
    assert trained.bits() == bits


def test_a_run_without_weights_says_so(make_experiment, tiny):
    tiny["keep_weights"] = "none"
    edge = measure(make_experiment(tiny).prepare().train("kd"), "kd")["kd"]
    assert (edge["results"], edge["reason"]) == ([], "its weights were not kept (keep_weights)")


def test_candidates_of_the_montage_have_images_annotations_and_maps(trained):
    measure(trained, "at")
    with np.load(trained.store_folder("at") / OVERLAP_FOLDER / "maps.npz") as maps:
        assert maps["index"].tolist() == list(range(24))  # All of them: fewer than NUM_CANDIDATES.
        assert maps["image"].shape == (24, 32, 32, 3)
        assert maps["annotation"].shape == (24, 32, 32)
        assert maps["student_stage1"].dtype == maps["teacher_stage1"].dtype == np.uint8
        assert maps["student_stage1"].shape[0] == 24


def test_spectra_are_means_over_rings_of_frequencies(trained):
    measure(trained, "at")
    spectra = json.loads((trained.store_folder("at") / OVERLAP_FOLDER / "spectra.json").read_text())
    assert set(spectra) == {"student", "teacher"}
    assert spectra["student"]["stage1"][0] == pytest.approx(0.0, abs=1e-6)  # The mean was taken off.
    assert all(value > 0 for value in spectra["student"]["stage1"][1:4])


def test_a_path_that_is_no_student_s_overlap_is_refused(trained):
    edge = (trained.results / trained.plan.runs[0].path).with_name("look.json")
    with pytest.raises(
        InputError, match=r"look\.json: no student of experiment tiny is measured there; did you mean .*overlap\.json"
    ):
        overlap.measure_overlap(trained.plan, [edge], trained.results, device="cpu")


def test_the_number_of_threads_is_that_of_the_recipe(trained):
    measure(trained, "at")
    assert torch.get_num_threads() == 1
