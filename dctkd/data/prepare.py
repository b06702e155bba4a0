"""From what the config says about a dataset to its pixel cache; a cache that holds just that is used as it is."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dctkd.data import RESULTS_VERSION, formats
from dctkd.data.cache import PixelCache, read_header
from dctkd.data.manifest import SPLITS, Manifest, OnProblem, Rendered, Split, check_problems
from dctkd.data.packing import Progress, pack
from dctkd.data.unfinished import part_folder, unfinished_folders
from dctkd.errors import InputError
from dctkd.late_files import settled
from dctkd.locks import waiting
from dctkd.provenance import canonical_json, sha256_of

logger = logging.getLogger(__name__)


def prepare(
    format_name: str,
    options: Mapping[str, Any],
    root: Path | None,
    short_side: int | None,
    on_problem: OnProblem,
    target: Path,
    workers: int,
    progress: Progress | None = None,
    *,
    latency_s: float = 0.0,
) -> PixelCache:
    """Return the pixel cache of a dataset, made in `target` if it is not there yet.

    A cache is made anew when the format, its options, the resizing, `on_problem`, the package's RESULTS_VERSION, the
    official lists or the name, size or modification time of a photograph has changed. Packing that was stopped (killed,
    interrupted, disk full) goes on where it was if none of these has changed since, and starts anew otherwise.

    Args:
        format_name: Name in `formats.FORMATS`.
        options: The format's options, as the config gives them.
        root: Folder of the photographs; ignored by rendered formats.
        short_side: Pixels that short sides are resized to; None keeps sizes.
        on_problem: `fail` or `drop` images that cannot be used.
        target: Folder of the cache.
        workers: Processes that decode; changes speed only.
        progress: Called with the number of images done and of all images.
        latency_s: For how long a cache that another machine made may be seen late; it is not made again meanwhile.

    Raises:
        InputError: If options, root, lists, images, disk or target cannot be used; the target is as it was before.
    """
    kind = formats.get(format_name)
    parsed = formats.parse_options(format_name, options)
    request: dict[str, Any] = {
        "format": format_name,
        "options": parsed.model_dump(mode="json"),
        "short_side": short_side,
        "on_problem": on_problem,
        "results_version": RESULTS_VERSION,
    }
    manifest: Manifest | None = None
    if kind.kind == "photographs":
        if root is None:
            raise InputError(f"dataset.root: format {format_name} reads photographs; give the folder that they lie in")
        manifest = kind.read_manifest(root, parsed)
        check_problems(manifest, on_problem)
        request["signature"] = _signature(manifest)
    with waiting(target.parent / f".{target.name}.lock", str(target)):
        latency_s = latency_s if latency_s and _is_there(target) else 0.0
        cache = settled(lambda: _existing(target, request), lambda cache: cache is not None, target, latency_s)
        _clear_away(target, keep=None if cache else part_folder(target, request))
        if cache is None:
            dataset: Manifest | dict[Split, Rendered] = manifest or {
                split: kind.render(parsed, split) for split in SPLITS
            }
            cache = pack(
                dataset,
                target,
                short_side=short_side,
                workers=workers,
                on_problem=on_problem,
                request=request,
                progress=progress,
            )
    return cache


def _is_there(target: Path) -> bool:
    """Tell whether a folder is there; a server answers this truly, whatever is remembered of a listing."""
    try:
        target.mkdir()
    except FileExistsError:
        return True
    target.rmdir()
    return False


def _existing(target: Path, request: Mapping[str, Any]) -> PixelCache | None:
    """Return the cache in the target if it is whole and was made from the same request."""
    header = read_header(target)
    if header is None or canonical_json(header.get("request")) != canonical_json(request):
        return None
    try:
        return PixelCache.open(target)
    except InputError as error:
        logger.warning("%s; making it again", error)
        return None


def _signature(manifest: Manifest) -> str:
    """Hash what tells, unread, whether photographs have changed: names, labels, sizes, modification times."""
    files = []
    for entry in manifest.entries:
        try:
            status = (manifest.root / entry.path).stat()
        except OSError:  # a link into the void; decoding reports it
            files.append([entry.id, entry.label, None, None])
        else:
            files.append([entry.id, entry.label, status.st_size, status.st_mtime_ns])
    problems = [[problem.kind, problem.where, problem.message] for problem in manifest.problems]
    return sha256_of([manifest.classes, files, problems])


def _clear_away(target: Path, keep: Path | None) -> None:
    """Delete what stopped processes left, but for what the request at hand goes on with."""
    for folder in unfinished_folders(target):
        if folder != keep:
            shutil.rmtree(folder, ignore_errors=True)
