"""Disk and memory, as the machine could be."""

import os
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from dctkd import file_systems
from dctkd.doctor import storage

Usage = namedtuple("Usage", "total used free")
NOT_ROOT = pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")


def give_disk(monkeypatch, free_bytes, free_inodes=10**6):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, free_bytes))
    status = SimpleNamespace(f_files=10**7 if free_inodes is not None else 0, f_favail=free_inodes or 0, f_flag=0)
    monkeypatch.setattr(os, "statvfs", lambda _: status)


@pytest.mark.parametrize(
    ("free_bytes", "states"),
    [
        (10**7, ["problem", "problem"]),
        (10**8, ["warning", "warning"]),
        (10**9, ["warning", "ok"]),
        (10**10, ["ok", "ok"]),
    ],
)
def test_little_disk_is_a_warning_and_none_a_problem(surroundings, monkeypatch, free_bytes, states):
    give_disk(monkeypatch, free_bytes)
    found = list(storage.free_space(surroundings))
    assert [finding.state for finding in found] == states
    wanted = f"du -xh --max-depth=2 {surroundings.folder} | sort -h | tail"
    assert found[0].remedy == (None if states[0] == "ok" else wanted)


@pytest.mark.parametrize(("free_inodes", "state"), [(10, "problem"), (5000, "warning"), (10**6, "ok"), (None, "ok")])
def test_few_inodes_are_told_where_there_is_a_number_of_them(surroundings, monkeypatch, free_inodes, state):
    give_disk(monkeypatch, 10**11, free_inodes)
    found = next(iter(storage.free_space(surroundings)))
    assert found.state == state
    wanted = f"du -x --inodes --max-depth=2 {surroundings.folder} | sort -h | tail"
    assert found.remedy == (None if state == "ok" else wanted)


@NOT_ROOT
def test_a_folder_of_ones_own_without_the_right_to_write_is_a_problem(surroundings):
    (surroundings.folder / "results/store").mkdir(parents=True)
    (surroundings.folder / "results/store").chmod(0o500)
    (found,) = storage.writability(surroundings)
    assert (found.state, found.remedy) == ("problem", f"chmod -R u+rwX {surroundings.folder}/results/store")


def test_a_folder_of_another_user_is_a_problem(surroundings, monkeypatch):
    results = surroundings.folder / "results"
    results.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != results)
    monkeypatch.setattr(os, "getuid", lambda: results.stat().st_uid + 1)
    (found,) = storage.writability(surroundings)
    assert (found.state, found.remedy) == ("problem", f'sudo chown -R "$(id -un)" {results}')
    assert found.text == f"results cannot be written: it belongs to user {results.stat().st_uid}"


def test_a_read_only_disk_has_no_command_that_mends_it(surroundings, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    (found,) = storage.writability(surroundings)
    assert (found.state, found.remedy) == ("problem", None)
    assert "Read-only file system" in found.text


def test_a_file_in_the_place_of_a_folder_is_a_problem(surroundings):
    (surroundings.folder / "paper_tables").touch()
    (found,) = storage.writability(surroundings)
    place = surroundings.folder / "paper_tables"
    assert (found.state, found.remedy) == ("problem", f"mv {place} {place}.moved")


def test_a_fresh_folder_can_be_written(surroundings):
    assert [finding.state for finding in storage.writability(surroundings)] == ["ok"]


def test_a_tmpdir_that_is_not_there_is_a_warning(surroundings, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/no where")
    (found,) = storage.temporary_files(surroundings)
    assert (found.state, found.remedy) == ("warning", "mkdir -p '/no where'  # or: unset TMPDIR")


def test_no_temporary_folder_at_all_is_a_problem(surroundings, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = list(storage.temporary_files(surroundings))[-1]
    assert (found.state, found.remedy) == ("problem", 'mkdir -p "$HOME/tmp" && export TMPDIR="$HOME/tmp"')


def test_caches_that_cannot_be_written_are_warnings(surroundings, monkeypatch):
    home = Path.home()
    assert list(storage.caches(surroundings)) == []
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != home)
    found = list(storage.caches(surroundings))
    assert [(finding.state, finding.remedy) for finding in found] == [
        ("warning", 'export MPLCONFIGDIR="$PWD/.cache/matplotlib"'),
        ("warning", 'export HF_HOME="$PWD/.cache/huggingface"'),
    ]


def mount(monkeypatch, *partitions):
    lines = [f"1 0 0:1 / {point} rw shared:1 - {kind} {device} rw" for device, point, kind in partitions]
    monkeypatch.setattr(file_systems, "MOUNTS", SimpleNamespace(read_text=lambda **_: "\n".join(lines)))


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "fuse.sshfs"])
def test_a_network_file_system_is_noted(surroundings, monkeypatch, kind):
    folder = str(surroundings.folder.parent.resolve())
    mount(monkeypatch, ("/dev/vda", "/", "ext4"), ("server:/x", folder, kind))
    (found,) = storage.file_system(surroundings)
    assert found.state == "note"
    assert f"{kind} (server:/x)" in found.text


@pytest.mark.parametrize("partitions", [(("/dev/vda", "/", "ext4"), ("server:/x", "/elsewhere", "nfs4")), ()])
def test_a_disk_of_this_machine_or_an_unknown_one_is_not_mentioned(surroundings, monkeypatch, partitions):
    mount(monkeypatch, *partitions)
    assert list(storage.file_system(surroundings)) == []


def test_of_two_mounts_at_one_place_the_last_counts(surroundings, monkeypatch):
    folder = str(surroundings.folder.resolve())
    mount(monkeypatch, ("/dev/vda", folder, "ext4"), ("server:/x", folder, "nfs4"))
    assert file_systems.kind_of_file_system(surroundings.folder) == ("nfs4", "server:/x")


@pytest.mark.parametrize(
    ("available", "granted", "state", "words"),
    [
        (16e9, None, "ok", "16.0 GB free"),
        (16e9, 8e9, "ok", "8.0 GB free within the limit of a cgroup"),
        (16e9, 2.5e9, "warning", "2.5 GB free within the limit of a cgroup: little for 4 jobs"),
        (1.5e9, 64e9, "warning", "1.5 GB free: little for 4 jobs"),
    ],
)
def test_memory_that_is_little_for_the_jobs_is_a_warning(surroundings, monkeypatch, available, granted, state, words):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
    monkeypatch.setattr(storage, "free_memory_bytes", lambda _: granted)
    (found,) = storage.memory(surroundings)
    assert found.state == state
    assert words in found.text
    assert (found.remedy is None) == (state == "ok")


def test_memory_for_two_jobs_means_two_cores(surroundings, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2.5e9))
    (found,) = storage.memory(surroundings)
    assert found.remedy == "snakemake --cores 2"


def test_shared_memory_that_is_missing_closed_or_full_is_a_problem(surroundings, monkeypatch):
    folder = surroundings.root / "dev/shm"
    assert list(storage.shared_memory(surroundings)) == []
    give_disk(monkeypatch, 10)
    (full,) = storage.shared_memory(surroundings)
    assert (full.state, full.remedy) == ("problem", f"ls -lhS {folder}")
    monkeypatch.setattr(os, "access", lambda *_: False)
    (closed,) = storage.shared_memory(surroundings)
    assert (closed.state, closed.remedy) == ("problem", f"sudo chmod 1777 {folder}")
    folder.rmdir()
    (missing,) = storage.shared_memory(surroundings)
    assert (missing.state, missing.remedy) == ("problem", f"sudo mount -t tmpfs -o mode=1777 tmpfs {folder}")
