"""Every file of the store, torn at any place: it is seen, and made again with the bits that it had; nothing else is."""

import hashlib
import shutil

import pytest

from dctkd.engine.overlap import measure_overlap
from dctkd.store.removal import mend
from dctkd.store.verify import verify

NUM_OFFSETS = 20
TELLS_OF_TIME = {"environment.json", "timing.json", "log.txt", "lock"}
"""Files that another run of the same job writes otherwise; so does the seal over them."""


def measure(experiment):
    edges = [experiment.results / run.overlap_path for run in experiment.plan.runs]
    measure_overlap(experiment.plan, edges, experiment.results, device="cpu")


@pytest.fixture(scope="module")
def experiment(make_shared_experiment):
    """A teacher and a student, trained and measured; every test leaves it as it was."""
    trained = make_shared_experiment("torn", methods={"kd": None}, map_sources=["activation"]).prepare().train()
    measure(trained)
    (trained.results / "tiny" / "plan.json").write_text(trained.plan.to_json())
    return trained


def files_of(experiment):
    """Return all files of the store, and what was published from it."""
    folders = (experiment.store.path, experiment.results / "tiny")
    paths = (path for folder in folders for path in sorted(folder.rglob("*")))
    return [
        path for path in paths if path.is_file() and not path.is_symlink() and path.name not in ("lock", "plan.json")
    ]


def is_seen(experiment, path):
    """Tell whether verification finds a file, or the run or the measurements that it belongs to, damaged."""
    damaged = [damage.path for damage in verify(experiment.results).damages]
    return any(path == one or path.is_relative_to(one) for one in damaged)


def offsets_of(size):
    return sorted({round(number * (size - 1) / (NUM_OFFSETS - 1)) for number in range(NUM_OFFSETS)})


def test_what_is_whole_is_found_whole(experiment):
    found = verify(experiment.results)
    assert (found.num_runs, found.num_measurements, found.num_edges, found.damages) == (2, 1, 4, ())


def test_a_file_that_was_torn_at_any_place_is_seen(experiment):
    unseen = []
    for path in files_of(experiment):
        content = path.read_bytes()
        for offset in offsets_of(len(content)):
            path.write_bytes(content[:offset])
            if not is_seen(experiment, path):
                unseen.append((path.name, offset, len(content)))
        path.write_bytes(content)
    assert unseen == []
    assert verify(experiment.results).damages == ()


def test_a_flipped_bit_is_seen(experiment):
    unseen = []
    for path in files_of(experiment):
        content = path.read_bytes()
        for offset in offsets_of(len(content))[::4]:
            path.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
            if not is_seen(experiment, path):
                unseen.append((path.name, offset, len(content)))
        path.write_bytes(content)
    assert unseen == []


def test_a_deleted_file_of_the_store_is_seen(experiment):
    unseen = []
    for path in files_of(experiment):
        if path.is_relative_to(experiment.store.path):
            content = path.read_bytes()
            path.unlink()
            unseen += [] if is_seen(experiment, path) else [path.name]
            path.write_bytes(content)
    assert unseen == []


def test_a_file_of_another_run_is_seen(experiment):
    unseen, num_copied = [], 0
    folders = [folder.path for folder in experiment.store.folders()]
    for ours, theirs in (folders, reversed(folders)):
        for path in (path for path in ours.iterdir() if path.is_file() and path.name != "lock"):
            content = path.read_bytes()
            if content != (theirs / path.name).read_bytes():
                shutil.copyfile(theirs / path.name, path)
                unseen += [] if is_seen(experiment, path) else [path.name]
                path.write_bytes(content)
                num_copied += 1
    assert unseen == []
    assert num_copied >= 14


def test_links_and_files_that_do_not_belong_are_seen_and_only_they_are_removed(experiment):
    folder = experiment.store_folder("kd")
    (folder / "notes.txt").write_text("mine")
    (folder / "link.json").symlink_to(folder / "timing.json")
    (folder / "eval" / "overlap-1" / "more.npz").write_bytes(b"x")
    found = verify(experiment.results)
    assert {damage.path.name for damage in found.damages} == {"notes.txt", "link.json", "more.npz"}
    assert all(is_gone for _, is_gone in mend(found.damages))
    assert verify(experiment.results).damages == ()
    assert (folder / "timing.json").is_file()


def test_a_sealed_file_behind_a_link_is_damage(experiment, tmp_path):
    path = experiment.store_folder("kd") / "weights.safetensors"
    shutil.move(path, tmp_path / path.name)
    path.symlink_to(tmp_path / path.name)
    assert is_seen(experiment, path)
    path.unlink()
    shutil.move(tmp_path / path.name, path)
    assert verify(experiment.results).damages == ()


def test_a_run_that_is_being_trained_is_neither_judged_nor_touched(experiment):
    folder = experiment.store.folder(experiment.store_folder("kd").name)
    path = folder.path / "history.jsonl"
    content = path.read_bytes()
    path.write_bytes(b"")
    damages = verify(experiment.results).damages
    with folder.claim():
        found = verify(experiment.results)
        assert (found.damages, [one.digest for one in found.in_training]) == ((), [folder.digest])
        assert [is_gone for _, is_gone in mend(damages)] == [False]
    assert path.read_bytes() == b""
    path.write_bytes(content)


def bits(experiment):
    """Map every deterministic file to its hash."""
    seals = {folder.path / "files.json" for folder in experiment.store.folders()}
    paths = [path for path in files_of(experiment) if path.name not in TELLS_OF_TIME and path not in seals]
    return {path.relative_to(experiment.results): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_every_torn_file_is_mended_with_the_bits_that_it_had_and_no_other_run_is_made_again(experiment):
    before = bits(experiment)
    for path in files_of(experiment):
        finished = {f.path: (f.path / "metrics.json").stat().st_mtime_ns for f in experiment.store.folders()}
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert all(is_gone for _, is_gone in mend(verify(experiment.results).damages))
        measure(experiment.prepare().train())
        assert bits(experiment) == before, path
        assert verify(experiment.results).damages == (), path
        others = {folder: time_ns for folder, time_ns in finished.items() if not path.is_relative_to(folder)}
        assert {folder: (folder / "metrics.json").stat().st_mtime_ns for folder in others} == others, path
