"""This user's processes of dctkd and Snakemake that work in a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePath

import psutil


@dataclass(frozen=True)
class Process:
    """A process that works in the folder.

    Attributes:
        pid: Its number.
        program: dctkd or snakemake.
        command: First argument, such as `train`; empty if there is none.
        is_orphan: Whether what started it is gone.
    """

    pid: int
    program: str
    command: str
    is_orphan: bool


def processes_in(folder: Path) -> list[Process]:
    """Return this user's other processes of dctkd and Snakemake whose working folder is `folder`."""
    found = []
    for process in psutil.process_iter(["pid", "uids"]):
        uids = process.info["uids"]
        if uids is None or uids.real != os.getuid() or process.pid == os.getpid():
            continue
        try:
            program, command = program_of(process.cmdline())
            if program and Path(process.cwd()) == folder:
                found.append(Process(process.pid, program, command, _is_orphan(process)))
        except (psutil.Error, OSError):  # it ended meanwhile, or may not be looked at
            continue
    return found


def program_of(arguments: list[str]) -> tuple[str, str]:
    """Return what a command line runs, `dctkd` or `snakemake`, with its first argument; two empty texts otherwise.

    Example:
        >>> program_of(["/env/bin/python", "/env/bin/dctkd", "train", "--plan", "plan.json"])
        ('dctkd', 'train')
        >>> program_of(["python3.11", "-m", "snakemake", "--cores", "2"])
        ('snakemake', '--cores')
        >>> program_of(["vim", "dctkd"])
        ('', '')
    """
    rest = list(arguments)
    if rest and PurePath(rest[0]).name.startswith("python"):
        rest = rest[1:]
        while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c"):
            rest = rest[1:]
        if rest[:1] == ["-m"]:
            rest = rest[1:]
    name = PurePath(rest[0]).name if rest else ""
    return (name, " ".join(rest[1:2])) if name in ("dctkd", "snakemake") else ("", "")


def _is_orphan(process: psutil.Process) -> bool:
    """Whether it was handed to another parent: one of another session, though it has not started a session itself."""
    if any(program_of(ancestor.cmdline())[0] == "snakemake" for ancestor in process.parents()):
        return False
    parent, session = process.parent(), os.getsid(process.pid)
    return session != process.pid and (parent is None or os.getsid(parent.pid) != session)
