"""Seals: what of a finished run is damaged is seen by the jobs that use it, and by the report."""

import logging

import pytest

from dctkd.errors import InputError
from dctkd.report.evidence import Evidence
from dctkd.store.seal import BrokenSealError, json_text, read_seal, read_sealed, whole_object, write_seal


def truncate(path, num_bytes=10):
    path.write_bytes(path.read_bytes()[:-num_bytes])


@pytest.fixture
def trained(make_experiment, tiny):
    tiny["methods"] = {"baseline": None, "kd": None}
    return make_experiment(tiny).prepare().train()


def test_json_is_whole_only_as_it_was_written():
    raw = json_text({"b": 1, "a": [0.1]}).encode()
    assert whole_object(raw) == {"b": 1, "a": [0.1]}
    assert [whole_object(raw[:length]) for length in range(len(raw))] == [None] * len(raw)
    assert whole_object(b"[1]\n") is None


@pytest.mark.parametrize("name", ["../other", "a/b", "", ".."])
def test_a_seal_that_lists_what_is_not_in_its_folder_is_refused(tmp_path, name):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "other").write_text("x")
    content = {"schema": 1, "digest": "run", "files": {name: {"sha256": "0" * 64, "bytes": 1}}}
    from dctkd.provenance import sha256_of

    (folder / "files.json").write_text(json_text({**content, "checksum": sha256_of(content)}))
    with pytest.raises(BrokenSealError, match="no file of its folder"):
        read_seal(folder, "run")


def test_a_file_that_is_not_sealed_is_not_read_beside_a_seal(tmp_path):
    (tmp_path / "a").write_text("a")
    write_seal(tmp_path, ["a"], digest=tmp_path.name)
    (tmp_path / "b").write_text("b")
    assert read_sealed(tmp_path, "a") == b"a"
    assert read_sealed(tmp_path, "c") is None
    with pytest.raises(InputError, match="b: not whole"):
        read_sealed(tmp_path, "b")


def test_students_do_not_learn_from_a_damaged_teacher(trained):
    teacher = trained.store.folder(trained.teacher_digest)
    weights = teacher.path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    (trained.store_folder("kd") / "metrics.json").unlink()
    with pytest.raises(InputError, match=rf"weights\.safetensors has other bytes.*verify --mend {teacher.digest}"):
        trained.train("kd")


def test_a_damaged_run_is_trained_again_aloud_and_ends_with_the_same_bits(trained, caplog):
    before, folder = trained.bits(), trained.store_folder("kd")
    truncate(folder / "history.jsonl")
    with caplog.at_level(logging.WARNING):
        trained.train()
    assert f"{folder} is damaged (history.jsonl has" in caplog.text
    assert trained.bits() == before
    assert len((folder / "log.txt").read_text().splitlines()) == 2, "the log of the damaged run is gone"


def test_a_run_of_before_there_were_seals_is_taken_by_the_hashes_in_its_metrics(trained):
    folder = trained.store.folder(trained.store_folder("kd").name)
    (folder.path / "files.json").unlink()
    assert folder.damage() == ["files.json is gone"]
    config = folder.path / "config.yaml"
    config.write_text(config.read_text().replace("pretrained_sha256: null\n", ""))
    assert folder.is_finished()
    truncate(folder.path / "predictions.parquet")
    assert folder.damage() == ["predictions.parquet is not the one that metrics.json is about"]


def test_a_finished_run_has_no_state_and_its_status_comes_from_its_metrics(trained):
    from dctkd.status import read_status

    assert list(trained.store.path.glob("*/state.json")) == []
    assert {row["status"] for row in read_status(trained.plan, trained.results)} == {"ok"}


@pytest.mark.parametrize("name", ["predictions.parquet", "history.jsonl", "config.yaml"])
def test_the_report_refuses_damaged_files(trained, name):
    digest = trained.store_folder("kd").name
    read = {"predictions.parquet": "predictions", "history.jsonl": "history", "config.yaml": "config_text"}[name]
    assert getattr(Evidence(trained.store.path), read)(digest) is not None
    path = trained.store.path / digest / name
    path.write_bytes(path.read_bytes().replace(b"0", b"1"))
    with pytest.raises(InputError, match=rf"{name}: not whole \(other bytes.*verify --mend {digest}"):
        getattr(Evidence(trained.store.path), read)(digest)
    path.unlink()
    with pytest.raises(InputError, match=f"{name}: is gone"):
        getattr(Evidence(trained.store.path), read)(digest)
