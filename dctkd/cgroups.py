"""Limits that containers and batch systems set: control groups of Linux, version 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

UNLIMITED_BYTES = 1 << 60
"""Version 1 writes a number near 2^63 for no limit."""


def cpu_limit(root: Path) -> float | None:
    """Return how many cores' worth of time this process may use, None if it is not limited.

    Args:
        root: Where /proc and /sys hang.
    """
    limits = []
    for folder in _folders(root, "cpu"):
        words = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
            limits.append(int(words[0]) / int(words[1]))
    return min(limits, default=None)


def free_memory_bytes(root: Path) -> int | None:
    """Return how many bytes of memory the process's groups still grant, None if they are not limited."""
    free = []
    for folder in _folders(root, "memory"):
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = _words(folder / limit_name), _words(folder / used_name)
            if limit and used and limit[0].isdigit() and int(limit[0]) < UNLIMITED_BYTES:
                cached = _page_cache_bytes(folder)
                free.append(max(int(limit[0]) - int(used[0]) + cached, 0))
    return min(free, default=None)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the process's groups, inner to outer; a limit of any of them holds."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        inner = mount / group.lstrip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(mount))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _page_cache_bytes(folder: Path) -> int:
    """What the kernel gives back when it is asked for memory: pages of files that were not used lately."""
    words = _words(folder / "memory.stat")
    values = dict(zip(words[::2], words[1::2], strict=False))
    return int(values.get("total_inactive_file") or values.get("inactive_file") or 0)
