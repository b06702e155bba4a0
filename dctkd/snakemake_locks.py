"""Locks that a killed Snakemake has left in a working folder. Imports neither torch nor timm."""

from __future__ import annotations

import atexit
import os
import secrets
import sys
from pathlib import Path

from dctkd.locks import is_held, try_lock

OURS = ("results", "paper_tables")
"""Folders that this suite writes to."""


def clear_stale_locks(folder: Path = Path(".snakemake")) -> None:
    """Remove the locks that a killed Snakemake has left, so that the same command goes on.

    Snakemake's own locks do not say whose they are. So each main process registers here, under a lock that dies with
    it; where no other one lives, locks on this suite's files belong to nobody. Locks on other files are left alone.

    Args:
        folder: Snakemake's folder in the working folder.
    """
    register = folder / "dctkd"
    myself = register / f"{os.getpid()}-{secrets.token_hex(4)}.lock"
    try:
        held = try_lock(myself)
        if held is not None:
            atexit.register(held.release)
        others = [path for path in register.iterdir() if path != myself]
        alive = [path for path in others if is_held(path)]
        stale = [] if alive else [path for path in (folder / "locks").glob("*.lock") if is_ours(path)]
        for path in [*stale, *(set(others) - set(alive))]:
            path.unlink(missing_ok=True)
    except OSError as error:  # a folder that cannot be written: Snakemake says so itself
        sys.stderr.write(f"warning: {folder}: no looking for stale locks ({error.strerror})\n")
        return
    if stale:
        sys.stderr.write(f"A killed snakemake left {folder}/locks; nobody holds them any more, so they are removed.\n")


def is_ours(lock: Path) -> bool:
    """Tell whether a lock of Snakemake's is on files of this suite alone."""
    files = lock.read_text(errors="surrogateescape").splitlines()
    return bool(files) and all(name.partition("/")[0] in OURS for name in files)
