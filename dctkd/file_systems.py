"""Which kind of file system a path lies on, and whether other machines write there too. Imports nothing heavy."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

NETWORK_FILE_SYSTEMS = frozenset(
    {
        *("nfs", "nfs4", "lustre", "gpfs", "mmfs", "beegfs", "fhgfs", "ceph", "glusterfs", "panfs", "wekafs", "pvfs2"),
        *("orangefs", "afs", "openafs", "auristorfs", "coda", "ocfs2", "gfs", "gfs2", "quobyte", "moosefs", "mfs"),
        *("lizardfs", "juicefs", "vastnfs", "dvs", "cvmfs", "cifs", "smb3", "smbfs", "smb2", "ncpfs", "9p", "virtiofs"),
        *("vboxsf", "vmhgfs", "prl_fs", "sshfs", "davfs", "s3fs", "gcsfuse", "goofys", "rclone", "mountpoint-s3"),
        *("blobfuse", "blobfuse2", "ceph-fuse", "glusterfs-fuse", "vmhgfs-fuse", "hdfs", "fuse_dfs", "acfs", "curvefs"),
    }
)
"""Types in /proc/self/mountinfo that several machines can mount at once; those of FUSE stand there as `fuse.<name>`."""


def kind_of_file_system(path: Path) -> tuple[str, str]:
    """Return the kind of file system that a path lies on and what is mounted there.

    Args:
        path: It need not exist; links on the way are followed.

    Returns:
        For example `("nfs4", "server:/home")`; two empty texts where the kernel does not tell (not Linux).
    """
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return "", ""
    real = path.resolve()
    found, depth = ("", ""), 0
    for line in lines:
        place, _, rest = line.partition(" - ")
        mounted, after = place.split(" "), rest.split(" ")
        if len(mounted) < 5 or len(after) < 2:
            continue
        point = Path(_unescaped(mounted[4]))
        if real.is_relative_to(point) and len(point.parts) >= depth:  # of mounts at one place the last covers the rest
            found, depth = (after[0], _unescaped(after[1])), len(point.parts)
    return found


def is_network(kind: str) -> bool:
    """Tell whether several machines can write to a kind of file system at once.

    Example:
        >>> is_network("nfs4"), is_network("fuse.sshfs"), is_network("ext4")
        (True, True, False)
    """
    return kind.removeprefix("fuse.") in NETWORK_FILE_SYSTEMS


def _unescaped(text: str) -> str:
    r"""Undo how mountinfo writes a space, a tab, an end of line and a backslash: `\040` and the like."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
