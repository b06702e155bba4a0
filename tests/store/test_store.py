"""The results store: what counts as finished, who may train, what is published."""

import json
import multiprocessing

import pytest

from dctkd.errors import InputError
from dctkd.plan import Run
from dctkd.store import Store, digest_of

RUN = Run(
    "shapes", "big", "small", "kd", 0, "spec", "tiny/shapes/big__small/kd/seed0/metrics.json", {"recipe": {"epochs": 2}}
)


@pytest.fixture
def folder(tmp_path):
    return Store(tmp_path).folder("digest")


def test_a_run_is_finished_once_its_metrics_are_whole(folder):
    assert folder.metrics() is None
    folder.finish({"status": "ok", "results": [1]})
    assert folder.metrics()["results"] == [1]


def test_a_torn_metrics_file_is_no_result(folder):
    folder.finish({"status": "ok", "results": [1]})
    path = folder.path / "metrics.json"
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert folder.metrics() is None
    path.write_bytes(content)
    assert folder.metrics() is not None


def test_an_edited_or_foreign_metrics_file_is_no_result(folder, tmp_path):
    folder.finish({"status": "ok", "results": [1]})
    path = folder.path / "metrics.json"
    path.write_text(path.read_text().replace("[\n  1\n ]", "[\n  2\n ]"))
    assert json.loads(path.read_text())["results"] == [2]
    assert folder.metrics() is None
    other = Store(tmp_path).folder("other")
    folder.finish({"status": "ok", "results": [1]})
    other.path.mkdir()
    (other.path / "metrics.json").write_bytes(path.read_bytes())
    assert other.metrics() is None


def test_publishing_copies_under_the_experiments_names(folder, tmp_path):
    folder.finish({"status": "ok", "results": [], "run": {"dataset": "another name"}})
    store = Store(tmp_path)
    store.publish(RUN, folder)
    store.publish(RUN, folder)
    edge = tmp_path / RUN.path
    assert json.loads(edge.read_text())["run"]["dataset"] == "shapes"
    assert not edge.is_symlink()
    assert (edge.parent / "store").resolve() == folder.path.resolve()


def test_an_unfinished_run_is_not_published(folder, tmp_path):
    with pytest.raises(InputError, match="train it again"):
        Store(tmp_path).publish(RUN, folder)
    assert not (tmp_path / RUN.path).exists()


def _try_to_claim(folder, answer):
    answer.put(folder.claim() is not None)


def test_only_one_process_may_train_a_run(folder):
    context = multiprocessing.get_context("fork")
    answer = context.Queue()

    def ask():
        process = context.Process(target=_try_to_claim, args=(folder, answer))
        process.start()
        process.join()
        return answer.get(timeout=10)

    claim = folder.claim()
    assert claim is not None
    assert folder.is_locked()
    assert not ask()
    claim.release()
    assert not folder.is_locked()
    assert ask()
    assert folder.claim() is not None, "a dead owner's lock must be free"


def test_the_digest_depends_on_everything_that_only_the_job_knows():
    base = digest_of("spec", fingerprint="f", teacher=None, precision="float32", weights=None)
    assert len(base) == 32
    changed = [
        digest_of("spec2", fingerprint="f", teacher=None, precision="float32", weights=None),
        digest_of("spec", fingerprint="g", teacher=None, precision="float32", weights=None),
        digest_of("spec", fingerprint="f", teacher="t", precision="float32", weights=None),
        digest_of("spec", fingerprint="f", teacher=None, precision="bfloat16", weights=None),
        digest_of("spec", fingerprint="f", teacher=None, precision="float32", weights="w"),
    ]
    assert len({base, *changed}) == 6
