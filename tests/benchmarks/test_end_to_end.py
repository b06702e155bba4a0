"""The jobs that are compared end to end: their images, their loops, their rates."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.models.resnet import BasicBlock, ResNet

from benchmarks import end_to_end, processes
from benchmarks.end_to_end import JOBS, SOLO, TORCHDISTILL, Work, ratios_of, seconds_per_image, table_of
from benchmarks.peers import plain_loop
from benchmarks.peers.outcome import Outcome
from benchmarks.photographs import training_files, write_folder
from benchmarks.processes import Rate, rate_of, run_at_once


def rates(**training):
    return [Rate(value, value / 2, 5.0) for value in training["of"]]


@pytest.fixture
def found():
    kinds = {SOLO: (300.0, 200.0), TORCHDISTILL: (150.0, 100.0)}
    per_method = {
        (kind, method): rates(of=[rate] * 3)
        for kind, pair in kinds.items()
        for method, rate in zip(("kd", "at"), pair, strict=True)
    }
    return per_method | {(JOBS, "kd and at"): rates(of=[600.0] * 3)}


def test_a_rate_is_summed_over_jobs_and_start_up_is_apart():
    outcomes = [Outcome(student_images=800, train_s=8.0), Outcome(student_images=400, train_s=2.0)]
    assert rate_of(outcomes, whole_s=12.0) == Rate(training=300.0, whole=100.0, start_s=4.0)


def test_the_time_of_an_image_is_averaged_over_methods(found):
    assert seconds_per_image(found, SOLO) == [pytest.approx((1 / 300 + 1 / 200) / 2)] * 3


def test_ratios_compare_times_and_only_torchdistill_has_bounds(found):
    by_name = {
        ratio.name: ratio
        for ratio in ratios_of(found | {("plain loop", m): rates(of=[100.0] * 3) for m in ("kd", "at")})
    }
    assert by_name[f"{SOLO} / {TORCHDISTILL}"].value == pytest.approx(2.0)
    assert by_name[f"{SOLO} / {TORCHDISTILL}"].at_least == 1.7
    assert by_name[f"{JOBS} / {TORCHDISTILL}"].value == pytest.approx((1 / 150 + 1 / 100) / 2 * 600)
    assert by_name[f"{JOBS} / {TORCHDISTILL}"].at_least == 2.8
    assert by_name[f"{SOLO} / plain loop"].at_least is None


def test_a_peer_that_was_not_run_has_no_ratio(found):
    without = {key: value for key, value in found.items() if key[0] != TORCHDISTILL}
    assert ratios_of(without) == ()


def test_the_table_has_a_row_for_each_job_and_method(found):
    assert [row[:3] for row in table_of(found).rows] == [
        (SOLO, "kd", "300"),
        (SOLO, "at", "200"),
        (TORCHDISTILL, "kd", "150"),
        (TORCHDISTILL, "at", "100"),
        (JOBS, "kd and at", "600"),
    ]


def test_a_peer_goes_on_with_the_worker_count_that_was_faster_at_first(monkeypatch, tmp_path):
    seen = []

    def run(jobs, *, threads):
        seen.append([part for part in jobs[0] if not part.startswith("/")])
        workers = jobs[0][3] if jobs[0][0] == "torchdistill_loop" else "0"
        return Rate({"0": 1.0, "2": 2.0}[workers], 1.0, 1.0)

    monkeypatch.setattr(end_to_end, "run_at_once", run)
    end_to_end._run_all(tmp_path, Work(repeats=2), [TORCHDISTILL])
    workers = {method: [job[2] for job in seen if job[:2] == ["torchdistill_loop", method]] for method in ("kd", "at")}
    assert workers == {"kd": ["0", "2", "2"], "at": ["2", "2"]}


def test_a_reason_is_given_where_torchdistill_could_not_be_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(end_to_end, "SITE", end_to_end.REPOSITORY / "nowhere")
    monkeypatch.setattr(end_to_end, "INSTALL_LOG", tmp_path / "peers.log")
    assert end_to_end.why_missing() == "torchdistill is not in nowhere: make bench installs it"
    (tmp_path / "peers.log").write_text("error: no\n  cause: the network was disabled\n")
    assert end_to_end.why_missing() == "torchdistill is not in nowhere: error: no cause: the network was disabled"


def test_a_failed_job_is_told_with_what_it_wrote(monkeypatch):
    monkeypatch.setattr(processes.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="plain_loop x failed with status 1"):
        run_at_once([["plain_loop", "x"]], threads=1)


def test_an_outcome_is_read_from_the_last_line_that_a_job_prints():
    outcome = Outcome(student_images=64)
    with outcome.timing():
        pass
    assert Outcome.of_output(f"noise\n{outcome.to_line()}\n") == outcome


def test_generated_images_lie_in_class_folders_as_large_as_photographs(tmp_path):
    kind = write_folder(tmp_path, None, classes=3, per_class=2, size=(128, 128))
    files = training_files(tmp_path)
    assert kind == "generated 128x128 JPEGs"
    assert (len(files), len(list((tmp_path / "test").rglob("*.jpg")))) == (6, 3)
    assert all(3_000 < file.stat().st_size < 6_000 for file in files)


def test_real_images_are_linked_at_equal_distances(tmp_path):
    photographs = tmp_path / "mine"
    photographs.mkdir()
    for number in range(12):
        (photographs / f"{number:02d}.jpg").touch()
    write_folder(tmp_path / "made", photographs, classes=2, per_class=2, size=(8, 8))
    assert [file.resolve().name for file in training_files(tmp_path / "made")] == [
        "00.jpg",
        "02.jpg",
        "06.jpg",
        "08.jpg",
    ]


def test_too_few_photographs_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected at least 4 \.jpg files, found 0"):
        write_folder(tmp_path / "made", tmp_path, classes=2, per_class=1, size=(8, 8))


@pytest.mark.parametrize("method", ["kd", "at"])
def test_the_plain_loop_trains_its_student_and_leaves_the_teacher(tmp_path, method):
    write_folder(tmp_path, None, classes=2, per_class=3, size=(128, 128))
    torch.manual_seed(0)
    student, teacher = (ResNet(BasicBlock, [1, 1, 1, 1], num_classes=6) for _ in range(2))
    teacher.eval()
    before = [state.clone() for state in (student.fc.weight, teacher.bn1.running_mean, teacher.fc.weight)]
    optimiser = torch.optim.SGD(student.parameters(), lr=0.1)
    loader = plain_loop.make_loader(tmp_path, workers=0, batch_size=4)
    assert plain_loop.train_epoch(loader, (student, teacher), optimiser, method) == 6
    after = (student.fc.weight, teacher.bn1.running_mean, teacher.fc.weight)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, True, True]


def test_the_plain_loops_features_give_the_networks_own_logits():
    net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=6).eval()
    images_BCHW = torch.randn(2, 3, 64, 64)
    features, logits_BK = plain_loop.features_and_logits(net, images_BCHW)
    assert torch.equal(logits_BK, net(images_BCHW))
    assert [feature.shape[1] for feature in features] == [64, 128, 256, 512]


def test_our_two_experiments_cover_both_methods_and_sixteen_runs_that_differ(tmp_path):
    experiments = end_to_end._experiments(tmp_path, Work())
    assert list(experiments["solo"]["methods"]) == ["kd", "at"]
    rows = experiments["packed"]["methods"]
    assert len({(row["method"], row["weight"]) for row in rows.values()}) == 16
    assert SimpleNamespace(**experiments["solo"]["recipes"]["student"]).threads == 2
    assert experiments["packed"]["recipes"]["student"]["threads"] == 1
