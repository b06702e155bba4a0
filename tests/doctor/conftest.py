"""A working folder to look at, with its own /proc, /sys and /dev."""

import dataclasses

import pytest

from dctkd.doctor.finding import Surroundings


@pytest.fixture
def surroundings(tmp_path, monkeypatch):
    """A working folder where nothing is wrong, beside a checkout and a root of its own."""
    for name in ("work", "checkout", "root/dev/shm", "root/proc/self", "home", "temporary"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    for name in ("TEMP", "TMP", "XDG_CACHE_HOME", "HF_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "work")
    return Surroundings(tmp_path / "work", checkout=tmp_path / "checkout", root=tmp_path / "root")


@pytest.fixture
def with_plan(surroundings, tiny):
    """Return a function that gives the surroundings an experiment, from the mapping that YAML would give."""
    from dctkd.config import resolve
    from dctkd.plan import make_plan

    def make(raw=tiny):
        def load_plan():
            return make_plan(resolve(raw, where="tiny.yaml"), config_file="tiny.yaml")

        config = surroundings.folder / "tiny.yaml"
        return dataclasses.replace(surroundings, config=config.relative_to(surroundings.folder), load_plan=load_plan)

    return make
