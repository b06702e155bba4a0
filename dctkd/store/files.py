"""Removing and linking files as network file systems need it."""

from __future__ import annotations

import errno
import logging
import os
import secrets
from pathlib import Path

logger = logging.getLogger(__name__)

KEPT_BY_NFS = ".nfs"
"""An NFS client keeps a file that is deleted while it is open under a name that starts so, until it is closed."""
_NOT_EMPTY = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY})


def remove_file(path: Path) -> None:
    """Remove a file or a link, if it is there; what an NFS client keeps for a process is left to the client."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if not path.name.startswith(KEPT_BY_NFS):
            raise


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it; what an NFS client keeps for a process stays, and so does its folder.

    Raises:
        OSError: If something else cannot be removed.
    """
    for folder, inner, names in os.walk(path, topdown=False, onerror=_raise):
        for name in names:
            remove_file(Path(folder, name))
        for name in inner:
            place = Path(folder, name)
            if place.is_symlink():
                remove_file(place)
            else:
                remove_folder(place)
    remove_folder(path)


def remove_folder(path: Path) -> None:
    """Remove an empty folder, or leave one in which, or below which, an NFS client keeps files for a process.

    Raises:
        OSError: If it cannot be removed, or holds something else.
    """
    try:
        path.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        left = [name for _, _, names in os.walk(path) for name in names]
        if error.errno not in _NOT_EMPTY or not left or not all(name.startswith(KEPT_BY_NFS) for name in left):
            raise


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def link_for_people(link: Path, target: Path) -> None:
    """Make or renew a symbolic link that nothing relies on; where links are not possible there is none.

    Renamed into its place, since two machines may make it at the same time, each unaware of the other's.
    """
    if link.is_symlink() and link.readlink() == target:
        return
    made = link.with_name(f".{link.name}.{secrets.token_hex(4)}.part")
    try:
        made.symlink_to(target)
        made.replace(link)
    except OSError as error:  # CIFS and some others have no links; a folder may stand in the place
        logger.debug("%s: not made (%s)", link, error)
        made.unlink(missing_ok=True)
