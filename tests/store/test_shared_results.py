"""Results on a file system that machines share: what is seen late is not lost, what is damaged is still found.

A late file system is played by hiding what another machine wrote and letting one more file be seen at each refresh, in
an order in which a client of NFS might show them. Only waiting moves the clock.
"""

import errno
import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from dctkd import late_files
from dctkd.data.prepare import prepare
from dctkd.engine.interrupt import Interrupt, InterruptedRunError
from dctkd.engine.job import make_job, run_job
from dctkd.engine.overlap import measure_overlap
from dctkd.errors import InputError
from dctkd.report.collect import gather
from dctkd.store import RunFolder, Store, read_edge
from dctkd.store.files import link_for_people, remove_tree
from dctkd.store.removal import delete, find_garbage, mend
from dctkd.store.verify import verify

PATIENCE_S = 60.0
RUN_FILES = ("metrics.json", "files.json", "weights.safetensors", "predictions.parquet", "config.yaml")


class LateFiles:
    """Files that another machine has written, and that are seen one after the other."""

    def __init__(self, hidden):
        self.hidden, self.now_s, self.waiting, self.after_s = hidden, 1000.0, [], 0.0

    def sleep(self, seconds):
        self.now_s += seconds

    def hide(self, *paths, seen_as=None):
        """Hide files until it is their turn; an old version of them may be seen meanwhile."""
        for path in paths:
            kept = self.hidden / str(len(list(self.hidden.iterdir())))
            path.rename(kept)
            if seen_as is not None:
                path.write_bytes(seen_as(kept.read_bytes()))
            self.waiting.append((kept, path))

    def refresh(self, folder):
        if self.waiting and self.now_s - 1000 >= self.after_s:
            kept, path = self.waiting.pop(0)
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            kept.rename(path)

    @property
    def waited_s(self):
        return self.now_s - 1000


@pytest.fixture
def late(tmp_path, monkeypatch):
    (tmp_path / "hidden").mkdir()
    late = LateFiles(tmp_path / "hidden")
    monkeypatch.setattr(late_files, "refresh", late.refresh)
    monkeypatch.setattr(late_files, "time", SimpleNamespace(sleep=late.sleep, monotonic=lambda: late.now_s))
    return late


@pytest.fixture
def on_nfs(monkeypatch):
    """Let the file system under the tests be one that machines share."""
    monkeypatch.setattr(late_files, "kind_of_file_system", lambda _: ("nfs4", "server:/x"))


@pytest.fixture(scope="module")
def trained(make_shared_experiment):
    changes = {"methods": {"baseline": None, "kd": None}, "shared_results": True, "latency_s": PATIENCE_S}
    experiment = make_shared_experiment("shared", **changes).prepare().train()
    (experiment.results / "tiny" / "plan.json").write_text(experiment.plan.to_json())
    return experiment


@pytest.fixture
def ours(trained, tmp_path):
    """A copy of a trained experiment whose results are shared."""
    shutil.copytree(trained.folder, tmp_path / "ours", symlinks=True)
    return type(trained)(tmp_path / "ours", dict(trained.raw))


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*_):
        pytest.fail("a run that another machine has finished is trained again")

    monkeypatch.setattr("dctkd.engine.job._train", refuse)


def run_folder(experiment, method="kd"):
    return RunFolder(experiment.store_folder(method), PATIENCE_S)


@pytest.mark.parametrize("order", list(itertools.permutations(range(len(RUN_FILES)), 2)))
def test_a_healthy_run_is_neither_deleted_nor_trained_in_whatever_order_it_is_seen(ours, late, no_training, order):
    before = ours.bits()
    folder = run_folder(ours)
    late.hide(*(folder.path / RUN_FILES[number] for number in order))
    ours.train("kd")
    assert ours.bits() == before
    assert 0 < late.waited_s < PATIENCE_S


@pytest.mark.parametrize("seen_as", [lambda raw: b"", lambda raw: raw[: len(raw) // 2], lambda raw: raw[::-1]])
@pytest.mark.parametrize("name", RUN_FILES)
def test_a_file_that_is_seen_as_it_was_before_is_not_damage(ours, late, no_training, name, seen_as):
    before = ours.bits()
    late.hide(run_folder(ours).path / name, seen_as=seen_as)
    ours.train("kd")
    assert ours.bits() == before


def test_one_patience_is_enough_for_all_runs_of_a_job(ours, late, no_training):
    paths = [run_folder(ours, method).path / name for method in ("baseline", "kd") for name in RUN_FILES[:2]]
    late.hide(*paths)
    ours.train()
    assert late.waited_s < PATIENCE_S


def test_what_is_truly_damaged_is_trained_again_after_the_patience(ours, late, caplog):
    before = ours.bits()
    (run_folder(ours).path / "weights.safetensors").write_bytes(b"damaged")
    ours.train("kd")
    assert ours.bits() == before
    assert "is damaged (weights.safetensors has 7 bytes" in caplog.text
    assert late.waited_s == pytest.approx(PATIENCE_S)


def test_on_a_local_file_system_damage_is_found_at_once(ours, late):
    before = ours.bits()
    ours.raw["shared_results"] = False
    (run_folder(ours).path / "weights.safetensors").write_bytes(b"damaged")
    ours.train("kd")
    assert (ours.bits(), late.waited_s) == (before, 0)


def test_a_run_that_nobody_has_begun_waits_for_nothing(ours, late):
    before = ours.bits()
    shutil.rmtree(run_folder(ours).path)
    ours.train("kd")
    assert (ours.bits(), late.waited_s) == (before, 0)


def test_a_run_that_was_stopped_on_another_machine_goes_on_after_the_patience(ours, late):
    before = ours.bits()
    folder = run_folder(ours)
    for name in RUN_FILES[:4]:
        (folder.path / name).unlink()
    ours.train("kd")
    assert ours.bits() == before
    assert late.waited_s == pytest.approx(PATIENCE_S)


def test_a_job_that_waits_for_late_files_stops_when_it_is_asked_to(ours, late, no_training):
    late.after_s = 1e9
    late.hide(run_folder(ours).path / "metrics.json")
    interrupt = Interrupt()
    job = make_job(ours.plan, [run for run in ours.plan.runs if run.method == "kd"], ours.results, device="cpu")
    interrupt.signal_number = 15
    with pytest.raises(InterruptedRunError):
        run_job(job, interrupt)


def test_the_edges_and_weights_of_a_teacher_may_be_seen_late(ours, late):
    before = ours.bits()
    shutil.rmtree(run_folder(ours).path)
    teacher = ours.store.folder(ours.teacher_digest).path
    edges = [ours.results / ours.plan.teachers[0].path, ours.results / "tiny/shapes/data.json"]
    late.hide(*edges, teacher / "weights.safetensors", teacher / "files.json", teacher / "metrics.json")
    ours.train("kd")
    assert ours.bits() == before


def test_weights_of_a_teacher_that_are_truly_gone_are_told_after_the_patience(ours, late):
    shutil.rmtree(run_folder(ours).path)
    (ours.store.folder(ours.teacher_digest).path / "weights.safetensors").unlink()
    with pytest.raises(InputError, match="the teacher's weights are gone"):
        ours.train("kd")
    assert late.waited_s == pytest.approx(PATIENCE_S)


def test_an_edge_that_is_seen_late_or_in_its_old_form_is_read(ours, late):
    path = ours.results / "tiny/shapes/data.json"
    expected = read_edge(path)
    late.hide(path)
    assert read_edge(path, PATIENCE_S) == expected
    late.hide(path, seen_as=lambda raw: raw[:10])
    assert read_edge(path, PATIENCE_S) == expected
    late.hide(path)
    with pytest.raises(InputError, match="no such file"):
        read_edge(path, 0.0)


def test_pixels_that_another_machine_packed_are_not_packed_again(ours, late, monkeypatch):
    plan = ours.plan
    identity = plan.data_identity("shapes")
    target = ours.results / read_edge(ours.results / "tiny/shapes/data.json")["cache"]
    monkeypatch.setattr("dctkd.data.prepare.pack", lambda *_, **__: pytest.fail("packed again"))
    late.hide(target / "fingerprint.json", target / "train/pixels.bin", target / "test/index.npy")
    cache = prepare("synthscenes", identity.options, None, None, "fail", target, 1, latency_s=PATIENCE_S)
    assert cache.num_images("train") == 50


def test_a_first_packing_waits_for_nothing(ours, late, tmp_path):
    options = ours.plan.data_identity("shapes").options
    prepare("synthscenes", options, None, None, "fail", tmp_path / "cache/new", 1, latency_s=PATIENCE_S)
    assert late.waited_s == 0


def test_where_students_look_is_measured_though_their_weights_are_seen_late(ours, late):
    edge = next(ours.results / run.overlap_path for run in ours.plan.runs if run.method == "kd")
    late.hide(run_folder(ours).path / "weights.safetensors")
    measure_overlap(ours.plan, [edge], ours.results, device="cpu")
    assert read_edge(edge)["results"], "not: its weights were not kept"
    measured = run_folder(ours).path / "eval"
    files = sorted(path for path in measured.rglob("*") if path.is_file())
    late.hide(*files)
    edge.unlink()
    measure_overlap(ours.plan, [edge], ours.results, device="cpu")
    assert read_edge(edge)["results"]


def test_verifying_finds_late_files_whole_and_damaged_ones_damaged(ours, late, on_nfs):
    folder = run_folder(ours)
    late.hide(folder.path / "weights.safetensors", folder.path / "files.json")
    assert verify(ours.results).damages == ()
    assert late.waited_s < PATIENCE_S
    (folder.path / "predictions.parquet").write_bytes(b"damaged")
    (damage,) = verify(ours.results).damages
    assert damage.path == folder.path
    assert late.waited_s >= PATIENCE_S


def test_a_run_whose_edge_and_plan_are_seen_late_is_no_garbage(ours, late, on_nfs):
    late.hide(next((ours.results / "tiny").rglob("kd/seed0/metrics.json")), ours.results / "tiny/plan.json")
    assert find_garbage(ours.results) == ([], [])


def test_a_report_waits_for_results_that_are_seen_late(ours, late, on_nfs):
    folder = run_folder(ours).path
    late.hide(next((ours.results / "tiny").rglob("kd/seed0/metrics.json")), folder / "history.jsonl")
    look = lambda: gather(ours.results / "tiny", ours.results / "store", partial=False)  # noqa: E731
    assert len(late_files.patiently(look, ours.results / "tiny", PATIENCE_S).frame)


@pytest.fixture
def nfs_client(monkeypatch):
    """Let files that stand for open ones be as an NFS client has them: they cannot be removed."""
    unlink = Path.unlink

    def refuse(self, missing_ok=False):
        if self.name.startswith(".nfs"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)


def leave_open_files(folder):
    names = (".nfs0001", "eval/overlap-1/.nfs0002")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"open elsewhere")
    return names


def test_files_that_nfs_keeps_for_a_process_are_no_damage_and_hinder_no_removal(ours, nfs_client):
    folder = run_folder(ours)
    leave_open_files(folder.path)
    assert verify(ours.results).damages == ()
    (folder.path / "weights.safetensors").unlink()
    assert [is_gone for _, is_gone in mend(verify(ours.results).damages)] == [True]
    left = {path.name for path in folder.path.rglob("*") if path.is_file()}
    assert left == {".nfs0001", ".nfs0002"}
    ours.raw["shared_results"] = False
    ours.train("kd")
    assert verify(ours.results).damages == ()


def test_a_run_that_nobody_needs_goes_though_nfs_keeps_its_files(ours, nfs_client):
    folder = run_folder(ours)
    leave_open_files(folder.path)
    shutil.rmtree(ours.results / "tiny")
    garbage, _ = find_garbage(ours.results)
    assert all(is_gone for _, is_gone in delete(garbage))
    assert {path.name for path in ours.store.path.rglob("*") if path.is_file()} == {".nfs0001", ".nfs0002"}


def test_what_cannot_be_removed_for_another_reason_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/precious").write_text("")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EACCES, "no")))
    with pytest.raises(OSError, match="no"):
        remove_tree(tmp_path / "a")


def test_a_link_for_people_is_made_renewed_and_not_missed_where_there_are_none(tmp_path, monkeypatch):
    link = tmp_path / "store"
    for target in ("a", "b"):
        link_for_people(link, Path(target))
        assert link.readlink() == Path(target)
    # Another machine has just made it, and its name is not seen here yet.
    monkeypatch.setattr(Path, "is_symlink", lambda _: False)
    link_for_people(link, Path("c"))
    monkeypatch.undo()
    assert link.readlink() == Path("c")
    monkeypatch.setattr(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no links")))
    link_for_people(link, Path("d"))
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_stores_on_a_network_file_system_are_patient_by_themselves(tmp_path, monkeypatch):
    assert Store(tmp_path).folder("d").latency_s == 0
    monkeypatch.setattr(late_files, "kind_of_file_system", lambda _: ("lustre", "x"))
    assert Store(tmp_path).folder("d").latency_s == late_files.LATENCY_S
    assert Store(tmp_path, 5.0).folder("d").latency_s == 5.0
