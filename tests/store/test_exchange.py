"""Runs travel from store to store: whole, checked, and without being trained again."""

import copy
import io
import json
import shutil
import tarfile

import pytest

from dctkd.engine import attention, job
from dctkd.engine.overlap import measure_overlap
from dctkd.errors import InputError
from dctkd.provenance import sha256_of
from dctkd.store import exchange
from dctkd.store.exchange import export_runs, import_runs
from dctkd.store.seal import json_text
from dctkd.store.verify import verify


@pytest.fixture(scope="module")
def labs(make_shared_experiment):
    """Return three results trees, which no test changes: seeds 0 and 1, seed 2, and all three."""
    return {
        name: make_shared_experiment(name, methods={"kd": None}, seeds=seeds, teacher_seed=0).prepare().train()
        for name, seeds in (("first", [0, 1]), ("second", [2]), ("all", [0, 1, 2]))
    }


@pytest.fixture
def copy_of(labs, tmp_path):
    """Return a function that copies a tree, to change at will."""

    def make(name):
        shutil.copytree(labs[name].folder, tmp_path / name, symlinks=True)
        return type(labs[name])(tmp_path / name, copy.deepcopy(labs[name].raw))

    return make


@pytest.fixture
def archive(labs, tmp_path):
    """What the second lab exports: a student and its teacher."""
    path = tmp_path / "second.tar.gz"
    export_runs(labs["second"].results, path)
    return path


def test_seeds_of_another_lab_are_published_without_training_with_the_bits_of_one_lab(
    labs, copy_of, archive, monkeypatch
):
    ours = copy_of("first")
    done = import_runs(ours.results, archive)
    assert (len(done.added), len(done.known), done.refused) == (1, 1, {})
    monkeypatch.setattr(job, "_train", lambda *args: pytest.fail("something was trained"))
    ours.raw["seeds"] = [0, 1, 2]
    ours.prepare().train()
    assert ours.bits() == labs["all"].bits()
    assert verify(ours.results).damages == ()


def test_measurements_travel_with_their_runs_and_are_not_made_again(copy_of, tmp_path, monkeypatch):
    theirs, ours = copy_of("second"), copy_of("first")

    def measure(experiment):
        edges = [experiment.results / run.overlap_path for run in experiment.plan.runs if run.seed == 2]
        measure_overlap(experiment.plan, edges, experiment.results, device="cpu")
        return [edge.read_bytes() for edge in edges]

    measured = measure(theirs)
    export_runs(theirs.results, tmp_path / "measured.tar")
    import_runs(ours.results, tmp_path / "measured.tar")
    ours.raw["seeds"] = [0, 1, 2]
    ours.prepare().train()
    monkeypatch.setattr(attention, "measure", lambda *args, **kwargs: pytest.fail("measured again"))
    assert measure(ours) == measured


def test_the_same_runs_give_the_same_bytes_with_neither_owner_nor_time(labs, copy_of, tmp_path):
    for suffix in (".tar", ".tar.gz"):
        paths = [tmp_path / f"{name}{suffix}" for name in ("a", "b")]
        export_runs(labs["second"].results, paths[0])
        export_runs(copy_of("second").results, paths[1])
        shutil.rmtree(tmp_path / "second")
        assert paths[0].read_bytes() == paths[1].read_bytes()
        with tarfile.open(paths[0]) as tar:
            members = tar.getmembers()
        assert {(m.uid, m.gid, m.uname, m.mtime, m.mode) for m in members} == {(0, 0, "", 0, 0o644)}
        assert [m.name for m in members] == sorted(m.name for m in members)


def test_a_student_is_exported_with_its_teacher(labs, tmp_path):
    first = labs["first"]
    digest = first.store_folder("kd", seed=1).name
    written, _ = export_runs(first.results, tmp_path / "one.tar", digests=[digest[:10]])
    assert set(written) == {digest, first.teacher_digest}


def test_what_is_damaged_or_not_finished_is_not_exported(copy_of, tmp_path):
    ours = copy_of("first")
    digest = ours.store_folder("kd").name
    log = ours.store.path / digest / "log.txt"
    content = log.read_bytes()
    log.write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"damaged \(log.txt has"):
        export_runs(ours.results, tmp_path / "x.tar")
    log.write_bytes(content)
    ours.store.folder(digest).remove_files()
    with pytest.raises(InputError, match="is not finished"):
        export_runs(ours.results, tmp_path / "x.tar", digests=[digest])
    _, left_out = export_runs(ours.results, tmp_path / "y.tar", experiment=None)
    assert left_out == [digest]
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["y.tar"]


def test_an_archive_that_cannot_be_written_leaves_nothing(labs, tmp_path, monkeypatch):
    monkeypatch.setattr(tarfile.TarFile, "addfile", lambda *args: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        export_runs(labs["second"].results, tmp_path / "x.tar")
    assert list(tmp_path.iterdir()) == []


def changed(archive, target, change):
    """Write an archive again, each member (name, bytes) given through `change`, which may return several or none."""
    with tarfile.open(archive) as source, tarfile.open(target, "w") as tar:
        for member in source.getmembers():
            for name, content in change(member.name, source.extractfile(member).read()):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return target


def store_files(experiment):
    return sorted(str(path.relative_to(experiment.results)) for path in experiment.store.path.glob("*/*"))


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("history.jsonl has", lambda name, raw: [(name, raw[:-1] if name.endswith("history.jsonl") else raw)]),
        ("metrics.json is not whole", lambda name, raw: [] if name.endswith("metrics.json") else [(name, raw)]),
        ("files.json is gone", lambda name, raw: [] if name.endswith("files.json") else [(name, raw)]),
        ("is no run", lambda name, raw: [(name, raw), ("notes/a.txt", b"x")]),
        ("checkpoint.pt does not belong", lambda name, raw: [(name, raw), *_beside(name, "checkpoint.pt")]),
        ("lock does not belong", lambda name, raw: [(name, raw), *_beside(name, "lock")]),
        ("steps upwards", lambda name, raw: [(name, raw), *_beside(name, "../../evil")]),
        ("absolute path", lambda name, raw: [(name, raw), ("/tmp/evil", b"x")]),
        ("is not whole", lambda name, raw: [(f"{'0' * 32}/{name.partition('/')[2]}", raw)]),
    ],
)
def test_an_archive_with_anything_but_whole_runs_changes_nothing(copy_of, archive, tmp_path, claim, change):
    ours = copy_of("first")
    before = store_files(ours)
    once = set()

    def change_once(name, raw):
        members = [one for one in change(name, raw) if one[0] not in once]
        once.update(name for name, _ in members)
        return members

    with pytest.raises(InputError, match=claim):
        import_runs(ours.results, changed(archive, tmp_path / "bad.tar", change_once))
    assert store_files(ours) == before


def _beside(name, other):
    return [(f"{name.partition('/')[0]}/{other}", b"x")]


def test_a_run_under_a_name_that_its_config_does_not_give_is_refused(labs, copy_of, tmp_path):
    theirs, ours = copy_of("second"), labs["first"]
    digest = theirs.store_folder("kd", seed=2).name
    forged = theirs.store.path / ("0" * 32)
    shutil.copytree(theirs.store.path / digest, forged)
    for name in ("metrics.json", "files.json"):
        content = {**json.loads((forged / name).read_text()), "digest": forged.name}
        content.pop("checksum")
        (forged / name).write_text(json_text({**content, "checksum": sha256_of(content)}))
    path = tmp_path / "forged.tar"
    exchange._write_archive(path, {f"{forged.name}/{one.name}": one for one in forged.iterdir() if one.name != "lock"})
    with pytest.raises(InputError, match=r"config\.yaml does not give the folder's name"):
        import_runs(ours.results, path)


def test_a_run_that_is_here_with_other_results_is_refused_and_ours_is_kept(copy_of, tmp_path):
    theirs, ours = copy_of("second"), copy_of("first")
    folder = theirs.store.folder(theirs.teacher_digest)
    metrics = folder.metrics()
    metrics["results"][0]["value"] += 1
    folder.finish(metrics)
    export_runs(theirs.results, tmp_path / "other.tar")
    before = ours.bits()
    done = import_runs(ours.results, tmp_path / "other.tar")
    student = theirs.store_folder("kd", seed=2).name
    assert done.refused == {
        folder.digest: "it is here with other results",
        student: "it learned from another teacher than the one that is here",
    }
    assert ours.bits() == before
    assert not ours.store.folder(student).path.exists()


class KilledError(BaseException):
    """Stands for SIGKILL: nothing runs after it."""


def test_a_killed_import_leaves_whole_runs_only_and_can_be_repeated(labs, copy_of, tmp_path, monkeypatch):
    ours = copy_of("first")
    shutil.rmtree(ours.store.path)
    export_runs(labs["all"].results, tmp_path / "all.tar")
    take, taken = exchange._take, []

    def killed(store, folder, done):
        if len(taken) == 2:
            raise KilledError
        taken.append(folder)
        take(store, folder, done)

    with monkeypatch.context() as patched:
        patched.setattr(exchange, "_take", killed)
        patched.setattr(exchange.shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(KilledError):
            import_runs(ours.results, tmp_path / "all.tar")
    assert len(list(ours.store.folders())) == 2
    assert all(folder.is_finished() for folder in ours.store.folders())
    done = import_runs(ours.results, tmp_path / "all.tar")
    assert (len(done.added), len(done.known)) == (2, 2)
    assert list(ours.store.path.glob(".*")) == []


def test_an_imported_run_takes_the_place_of_a_damaged_one(labs, copy_of, archive):
    ours = copy_of("second")
    folder = ours.store.folder(ours.store_folder("kd", seed=2).name)
    (folder.path / "history.jsonl").write_text("")
    assert import_runs(ours.results, archive).added == [folder.digest]
    assert folder.is_finished()
    assert ours.bits() == labs["second"].bits()
