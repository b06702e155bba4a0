"""Whether something can be written where the user wants it, asked before the work is done."""

from __future__ import annotations

import os
from pathlib import Path

from dctkd.errors import InputError


def require_folder_target(path: Path, option: str) -> None:
    """Check that a folder is there, or can be made.

    Args:
        path: The folder.
        option: What named it, for messages.

    Raises:
        InputError: If it, or what it would lie in, is no folder or may not be written.
    """
    try:
        there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
        problem = None if there.is_dir() else f"{there} is no folder"
        problem = problem or (None if os.access(there, os.W_OK | os.X_OK) else f"{there} may not be written")
    except OSError as error:
        problem = str(error.strerror)
    if problem:
        raise InputError(f"{option} {path}: {problem}; choose another folder")


def require_file_target(path: Path, option: str) -> None:
    """Check that a file can be written.

    Args:
        path: The file; it may be there already.
        option: What named it, for messages.

    Raises:
        InputError: If a folder is there, or its own folder cannot be used.
    """
    require_folder_target(path.parent, f"{option} {path}: in")
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; give the path of a file")
