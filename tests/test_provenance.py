"""Hashes, whole-file writes and the environment record."""

import hashlib
import json
import os
import shutil
import subprocess

import pytest

from dctkd import provenance


def test_the_canonical_hash_ignores_order_and_spacing():
    expected = hashlib.sha256(b'{"a":[1,2.5],"b":null}').hexdigest()
    assert provenance.sha256_of({"b": None, "a": (1, 2.5)}) == expected


def test_nan_has_no_canonical_form():
    with pytest.raises(ValueError, match=r"JSON compliant"):
        provenance.canonical_json({"a": float("nan")})


def test_a_failed_write_keeps_the_former_content_and_leaves_no_part(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    provenance.write_atomic(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        provenance.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_environment_names_platform_and_versions():
    record = provenance.environment("cpu", "float32", 1)
    assert {"cpu_model", "torch_build", "precision", "threads", "num_cores"} <= set(record["platform"])
    assert record["packages"]["torch"].split("+")[0] == record["platform"]["torch_build"].split("+")[0]
    json.dumps(record)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_asking_git_for_its_state_leaves_its_index_as_it_is(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    (tmp_path / "file").write_text("a")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    os.utime(tmp_path / "file", (1, 1))  # git would note the new time in its index
    before = (tmp_path / ".git/index").read_bytes()
    assert provenance._git(tmp_path, "status", "--porcelain") == ""
    assert (tmp_path / ".git/index").read_bytes() == before


def test_outside_a_checkout_the_commit_is_the_one_that_the_image_names(monkeypatch):
    def refuse(*_):
        raise FileNotFoundError("git")

    monkeypatch.setattr(provenance, "_git", refuse)
    monkeypatch.setenv("DCTKD_COMMIT", "f" * 40)
    named = provenance.git_state.__wrapped__()
    monkeypatch.setenv("DCTKD_COMMIT", "")
    assert (named, provenance.git_state.__wrapped__()) == (("f" * 40, None), (None, None))
