"""Processes of this folder, told by what they run and where."""

import os
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest

from dctkd.doctor.processes import Process, processes_in

WAIT = "import sys\nprint('ready', flush=True)\nsys.stdin.read()\n"


@contextmanager
def program(folder, name, *arguments, **options):
    """Run a program of that name, which waits until its input ends."""
    script = folder / "bin" / name
    script.parent.mkdir(exist_ok=True)
    script.write_text(WAIT)
    command = [sys.executable, str(script), *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, **pipes, **options) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.communicate("")


def test_dctkd_and_snakemake_of_this_folder_are_found(tmp_path):
    with program(tmp_path, "dctkd", "train") as train, program(tmp_path, "snakemake", "--cores") as snakemake:
        found = processes_in(tmp_path)
    wanted = [Process(train.pid, "dctkd", "train", False), Process(snakemake.pid, "snakemake", "--cores", False)]
    assert sorted(found, key=lambda process: process.program) == wanted


def test_other_programs_and_other_folders_are_not(tmp_path):
    (tmp_path / "inner").mkdir()
    with program(tmp_path, "editor"), program(tmp_path / "inner", "dctkd"):
        assert processes_in(tmp_path) == []


def test_a_process_that_started_a_session_itself_is_no_orphan(tmp_path):
    with program(tmp_path, "dctkd", start_new_session=True):
        assert [process.is_orphan for process in processes_in(tmp_path)] == [False]


@pytest.mark.skipif(sys.platform != "linux", reason="sessions as Linux keeps them")
def test_a_process_whose_starter_is_gone_is_an_orphan(tmp_path):
    (tmp_path / "dctkd").write_text("import os, sys\nprint('ready', flush=True)\nos.read(int(sys.argv[2]), 1)\n")
    read, write = os.pipe()
    # Not through its input: a shell closes that of what it starts in the background.
    command = ["/bin/sh", "-c", f'"{sys.executable}" dctkd train {read} & echo $!']
    options = {"cwd": tmp_path, "pass_fds": [read], "start_new_session": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as starter:
        pid = int(starter.stdout.readline())
        assert starter.stdout.readline() == "ready\n"
        starter.wait()
        assert [(process.pid, process.is_orphan) for process in processes_in(tmp_path)] == [(pid, True)]
        os.close(write)
        os.close(read)
        psutil.Process(pid).wait(10)
