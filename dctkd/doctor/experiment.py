"""What one experiment needs: a config that holds, photographs, weights, disk; and where it stands."""

from __future__ import annotations

import math
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from dctkd.data.cache import PixelCache, read_header
from dctkd.data.disk_space import DISK_MARGIN, readable_bytes
from dctkd.data.fetch.official_sources import OFFICIAL_SOURCES
from dctkd.data.manifest import SPLITS, check_problems
from dctkd.data.staging import NotStagedError, Staging
from dctkd.data.survey import manifest_of
from dctkd.doctor.finding import Finding, Surroundings, counted, existing
from dctkd.doctor.torch_process import ask_networks
from dctkd.engine.census import Census, pixel_bytes, surveyed_census, weight_bytes
from dctkd.engine.device import NVIDIA_DRIVER
from dctkd.engine.packing import cache_folder
from dctkd.errors import InputError
from dctkd.plan import Plan
from dctkd.status import read_status
from dctkd.store import STATUSES

ASSUMED_NUM_CLASSES = 1000
"""Of a dataset that cannot be read; it changes no more than the size of the classifier."""


def config(surroundings: Surroundings) -> Iterator[Finding]:
    """Look whether the experiment file is valid; files of methods and local weights are read with it."""
    planned = surroundings.planned
    if planned is None:
        return
    if isinstance(planned, InputError):
        yield Finding("config", "problem", str(planned))
    elif isinstance(planned, BaseException):
        message = " ".join(str(planned).split())[:200]
        yield Finding("config", "problem", f"{surroundings.config}: {type(planned).__name__}: {message}")
    else:
        sizes = f"{counted(len(planned.runs), 'student run')}, {counted(len(planned.teachers), 'teacher')}"
        yield Finding("config", "ok", f"{planned.name}: {sizes}")
        if planned.config.device == "cuda" and not NVIDIA_DRIVER.exists():
            text = f"{surroundings.config} asks for device cuda, but no NVIDIA driver is loaded"
            yield Finding("device", "problem", text, f"snakemake {_configfile(surroundings)} --config device=auto")


def datasets(surroundings: Surroundings) -> Iterator[Finding]:
    """Look whether each dataset is packed, or can be packed from where it lies."""
    plan = surroundings.plan
    if plan is not None:
        yield from (_dataset(plan, name, surroundings) for name in plan.config.datasets)


def networks(surroundings: Surroundings) -> Iterator[Finding]:
    """Look whether timm has the networks and their weights are at hand."""
    plan = surroundings.plan
    if plan is None:
        return
    answer = _described(surroundings)
    if "error" in answer:
        yield Finding("networks", "problem", f"torch or timm cannot be used: {answer['error']}")
        return
    errors = list(dict.fromkeys(model["error"] for model in answer.values() if "error" in model))
    for text in errors:
        yield Finding("networks", "problem", text)
    yield from _pretrained(plan, answer)
    if not errors:
        names = sorted({name.split("/")[1] for name in answer})
        yield Finding("networks", "ok", f"timm builds {', '.join(names)}")


def disk(surroundings: Surroundings) -> Iterator[Finding]:
    """Compare what the experiment will still write with what is free."""
    plan = surroundings.plan
    if plan is None:
        return
    sizes = {name: size for name, size in _sizes(surroundings).items() if not isinstance(size, InputError)}
    unpacked = [name for name in sizes if read_header(_cache(surroundings, name)) is None]
    pixels = sum(pixel_bytes(plan, name, sizes[name]) for name in unpacked)
    unsized = [name for name in plan.config.datasets if name not in sizes]
    unknown = [f"pixels of {', '.join(unsized)}"] if unsized else []
    done = {row["path"] for row in read_status(plan, surroundings.results) if row["status"] in STATUSES}
    waiting = [run for run in plan.runs if run.path not in done]
    answer = _described(surroundings)
    parameters = {name: model["parameters"] for name, model in answer.items() if "parameters" in model}
    if all(f"{run.dataset}/{run.student}" in parameters for run in waiting):
        weights = weight_bytes(plan, waiting, parameters)
    else:
        weights = 0
        unknown.append("weights")
    place = existing(surroundings.results)
    free = shutil.disk_usage(place).free
    needed = [f"pixels {readable_bytes(pixels)}"] if unpacked else []
    needed += [f"weights {readable_bytes(weights)}"] if weights else []
    needed += [f"unknown {' and '.join(unknown)}"] if unknown else []
    text = f"{' and '.join(needed) or 'nothing'} to come, {readable_bytes(free)} free"
    if (pixels + weights) * DISK_MARGIN > free:
        remedy = f"du -xh --max-depth=2 {shlex.quote(str(place))} | sort -h | tail"
        yield Finding("disk needed", "problem", f"{text}; make space, or link results to a larger disk", remedy)
    else:
        yield Finding("disk needed", "note" if unknown else "ok", text)


def staging(surroundings: Surroundings) -> Iterator[Finding]:
    """Look whether pixels can be copied to this node's disk, if the experiment wants that; jobs do without."""
    plan = surroundings.plan
    if plan is None or plan.config.stage_to is None:
        return
    try:
        folder = Staging(plan.config.stage_to).folder()
    except NotStagedError as error:
        yield Finding("staging", "note", f"{error}; jobs in which it is so read pixels from results/cache")
        return
    place, limit_gb = existing(folder), plan.config.stage_limit_gb
    free = shutil.disk_usage(place).free
    sizes = [pixel_bytes(plan, name, size) for name, size in _sizes(surroundings).items() if isinstance(size, Census)]
    text = f"pixels of about {readable_bytes(sum(sizes))} are copied to {folder}, {readable_bytes(free)} free"
    if not os.access(place, os.W_OK | os.X_OK):
        text = f"{folder} cannot be written here; jobs in which it is so read pixels from results/cache"
        yield Finding("staging", "warning", text)
    elif sum(sizes) > min(free, math.inf if limit_gb is None else limit_gb * 1e9):
        yield Finding("staging", "note", f"{text}: not all of them at a time; make space, or raise stage_limit_gb")
    else:
        yield Finding("staging", "ok", text)


def progress(surroundings: Surroundings) -> Iterator[Finding]:
    """Tell where the experiment stands."""
    plan = surroundings.plan
    if plan is None:
        return
    counts = Counter(row["status"] for row in read_status(plan, surroundings.results))
    text = ", ".join(f"{number} {status}" for status, number in counts.most_common())
    yield Finding("progress", "ok", f"of {counts.total()} runs: {text}")


CHECKS = (config, datasets, networks, disk, staging, progress)


@lru_cache(maxsize=1)
def _sizes(surroundings: Surroundings) -> dict[str, Census | InputError]:
    """Size of each dataset, from its cache or else from where it lies, or why it cannot be used; read once."""
    assert surroundings.plan is not None
    sizes: dict[str, Census | InputError] = {}
    for name in surroundings.plan.config.datasets:
        try:
            is_packed = read_header(_cache(surroundings, name)) is not None
            sizes[name] = _packed(_cache(surroundings, name)) if is_packed else _unpacked(surroundings.plan, name)
        except InputError as error:
            sizes[name] = error
    return sizes


def _packed(folder: Path) -> Census:
    cache = PixelCache.open(folder)
    train, test = (cache.num_images(split) for split in SPLITS)
    return Census(len(cache.classes), train, test)


def _unpacked(plan: Plan, name: str) -> Census:
    identity = plan.data_identity(name)
    manifest = manifest_of(identity.format, identity.options, plan.data_root(name))
    if manifest is None:
        return surveyed_census(plan, name)
    check_problems(manifest, identity.on_problem)
    train, test = (len(manifest.split(split)) for split in SPLITS)
    return Census(len(manifest.classes), train, test)


def _dataset(plan: Plan, name: str, surroundings: Surroundings) -> Finding:
    check, size, folder = f"dataset {name}", _sizes(surroundings)[name], _cache(surroundings, name)
    is_packed, root = read_header(folder) is not None, plan.data_root(name)
    if isinstance(size, InputError):
        remove = f"rm -r {shlex.quote(surroundings.shown(folder))}"
        return Finding(check, "problem", str(size), remove if is_packed else _fetch(plan, name, surroundings))
    if is_packed:
        return Finding(check, "ok", f"packed: {_images(size)}")
    return Finding(check, "ok", f"not packed yet: {_images(size)}" + (f" in {root}" if root else ", rendered"))


def _cache(surroundings: Surroundings, name: str) -> Path:
    assert surroundings.plan is not None
    return surroundings.results / cache_folder(surroundings.plan, name)


def _images(size: Census) -> str:
    return f"{size.num_train_images:,} training and {size.num_test_images:,} test images of {size.num_classes} classes"


def _fetch(plan: Plan, name: str, surroundings: Surroundings) -> str | None:
    """The command that leads on from a dataset that cannot be read where it should lie."""
    root, kind = plan.data_root(name), plan.data_identity(name).format
    if root is None or (plan.config.data_root is None and not root.is_absolute() and not root.exists()):
        return f"dctkd doctor --config {shlex.quote(str(surroundings.config))} --set data_root=PATH"
    if root.exists():
        return f"dctkd data check {kind} --root {shlex.quote(str(root))}"
    if kind not in OFFICIAL_SOURCES:
        return None
    return f"dctkd data fetch {kind} --root {shlex.quote(str(plan.config.data_root or root.parent))}"


def _pretrained(plan: Plan, answer: dict[str, Any]) -> Iterator[Finding]:
    states = {name.split("/")[1]: model["pretrained"] for name, model in answer.items() if model.get("pretrained")}
    names: dict[str, list[str]] = {"cached": [], "reachable": [], "unreachable": []}
    for name, state in states.items():
        names[state].append(plan.config.models[name].architecture)
    if names["cached"]:
        yield Finding("weights", "ok", f"cached: {', '.join(names['cached'])}")
    if names["reachable"]:
        yield Finding("weights", "note", f"not cached, the first job downloads them: {', '.join(names['reachable'])}")
    if missing := names["unreachable"]:
        offline = "HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else "the hub is not reached"
        text = f"not cached, and {offline}: {', '.join(missing)}; fetch them where there is a network"
        calls = "; ".join(f"fetch({name!r})" for name in missing)
        code = f"from dctkd.weights import resolve_pretrained as fetch; {calls}"
        # Double quotes are easier to read; names of timm need no others.
        quoted = shlex.quote(code) if set(code) & set('"$`\\!') else f'"{code}"'
        yield Finding("weights", "problem", text, f"HF_HUB_OFFLINE=0 python -c {quoted}")


def _configfile(surroundings: Surroundings) -> str:
    return f"--cores all --configfile {shlex.quote(str(surroundings.config))}"


@lru_cache(maxsize=1)
def _described(surroundings: Surroundings) -> dict[str, Any]:
    """What another process says about each `<dataset>/<model>`; asked once."""
    plan = surroundings.plan
    assert plan is not None
    config, models = plan.config, []
    frozen: dict[str, int | None] = {}
    for pair in config.pairs:
        for name, recipe in ((pair.teacher, config.teacher_recipe), (pair.student, config.student_recipe)):
            frozen[name] = max(frozen.get(name) or 0, config.recipes[recipe].frozen_stages or 0) or None
    for dataset, size in _sizes(surroundings).items():
        num_classes = ASSUMED_NUM_CLASSES if isinstance(size, InputError) else size.num_classes
        asked = {"num_classes": num_classes, "crop": config.datasets[dataset].input.crop}
        for name, num_stages in frozen.items():
            model = config.models[name].model_dump(mode="json")
            models.append({**model, **asked, "name": f"{dataset}/{name}", "frozen_stages": num_stages})
    return ask_networks(models)
