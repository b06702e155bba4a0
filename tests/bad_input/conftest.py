"""A tiny experiment in the working folder."""

import pytest

from tests.bad_input.command import write, write_miniplaces


@pytest.fixture
def experiment(tiny, tmp_path, monkeypatch):
    """A tiny experiment on photographs, in the working folder; functions change it before it is used."""
    monkeypatch.chdir(tmp_path)
    tiny["datasets"] = {"scenes": {"format": "miniplaces", "input": {"short_side": 36, "crop": 32}}}
    tiny["data_root"] = str(write_miniplaces(tmp_path / "photographs"))
    return tiny


@pytest.fixture
def in_folder(tiny, tmp_path, monkeypatch):
    """The working folder, with a tiny experiment on rendered images in tiny.yaml."""
    monkeypatch.chdir(tmp_path)
    write(tiny)
    return tmp_path
