"""Checkpoints: whole or absent, of the right run, without code inside."""

import logging
import pickle

import pytest
import torch

from dctkd.engine.checkpoint import NEWEST, PREVIOUS, checkpoints, delete_checkpoints, save_checkpoint


def load(folder, digest="d"):
    """Return the checkpoint that a run goes on from."""
    return next(checkpoints(folder, digest=digest), None)


def state(step):
    return {"digest": "d", "step": step, "model": {"weight": torch.full((3,), float(step))}}


def test_the_newest_is_loaded(tmp_path):
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    assert load(tmp_path)["step"] == 2


def test_without_one_the_run_starts_anew(tmp_path):
    assert load(tmp_path) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_torn_newest_falls_back_to_the_one_before_and_says_so(tmp_path, caplog, share):
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    content = (tmp_path / NEWEST).read_bytes()
    (tmp_path / NEWEST).write_bytes(content[: int(len(content) * share)])
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path)["step"] == 1
    assert "damaged" in caplog.text


@pytest.mark.parametrize("place", [5, 25, 200, -1])
def test_a_byte_that_changed_on_the_disk_is_found(tmp_path, caplog, place):
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    content = bytearray((tmp_path / NEWEST).read_bytes())
    content[place] ^= 1
    (tmp_path / NEWEST).write_bytes(bytes(content))
    assert load(tmp_path)["step"] == 1
    assert "damaged" in caplog.text


def test_with_both_damaged_the_run_starts_anew(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, state(step))
    for name in (NEWEST, PREVIOUS):
        (tmp_path / name).write_bytes(b"")
    assert load(tmp_path) is None


def test_a_save_that_fails_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    save_checkpoint(tmp_path, state(1))
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, state(2))
    assert load(tmp_path)["step"] == 1


def test_a_checkpoint_of_another_run_is_never_taken(tmp_path, caplog):
    save_checkpoint(tmp_path, state(1))
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path, "other") is None
    assert "another run" in caplog.text


def test_a_pickle_payload_is_not_executed(tmp_path):
    class Payload:
        def __reduce__(self):
            return (exec, ("raise SystemExit('executed')",))

    with (tmp_path / NEWEST).open("wb") as file:
        pickle.dump(Payload(), file, protocol=2)
    assert load(tmp_path) is None


def test_no_temporary_file_stays_and_finished_runs_keep_none(tmp_path):
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([NEWEST, PREVIOUS])
    delete_checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []
