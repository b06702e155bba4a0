"""The installation: Python, packages, commands, environment variables, git. Needs nothing but packaging."""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import sys
import sysconfig
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd.doctor.finding import Finding, Surroundings
from dctkd.provenance import PACKAGES, git_state

if TYPE_CHECKING:
    from packaging.requirements import Requirement

LOCK = "requirements.lock"
NUM_NAMED = 4
"""Packages named in a line; of more, the number is told."""

IGNORED_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PINNING_VARIABLES = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""They tie every job to the same first cores."""


def python(surroundings: Surroundings) -> Iterator[Finding]:
    """Compare the version with what the package requires."""
    from packaging.specifiers import SpecifierSet

    required, found = SpecifierSet(_project(surroundings).python), platform.python_version()
    if required.contains(found, prereleases=True):
        yield Finding("Python", "ok", f"{found} in {sys.prefix}")
    else:
        version = str(required).removeprefix(">=")
        remedy = f"rm -rf .venv && make -C {_quoted(surroundings.checkout)} env PYTHON=python{version}"
        yield Finding("Python", "problem", f"{found} in {sys.prefix}, but dctkd requires {required}", remedy)


def packages(surroundings: Surroundings) -> Iterator[Finding]:
    """Look whether all that the package requires, itself or by way of others, is there in a version that fits."""
    broken = sorted(set(_broken_requirements(_project(surroundings).dependencies)))
    if broken:
        text = f"missing or too old: {_some(broken)}"
        yield Finding("packages", "problem", text, _install_command(surroundings))
    else:
        yield Finding("packages", "ok", "all that dctkd requires is installed")


def locked_versions(surroundings: Surroundings) -> Iterator[Finding]:
    """Compare versions with the lock file of the checkout: the versions that results are made with."""
    lock = surroundings.checkout / LOCK
    if not lock.is_file():
        text = f"no {LOCK} beside the package in {surroundings.checkout}; versions are not compared"
        yield Finding("locked versions", "note", text)
        return
    differing = {}  # builds for another device do not differ: 2.9.0+cpu matches ==2.9.0
    for requirement in _requirements_of_lock(lock):
        found = _version_of(requirement.name)
        if found is not None and not requirement.specifier.contains(found, prereleases=True):
            differing[requirement.name] = f"{requirement.name} {found} (lock: {str(requirement.specifier)[2:]})"
    telling = [text for name, text in differing.items() if name in PACKAGES]
    if telling:
        text = f"numbers may differ from published ones in the last digits: {_some(telling)}"
        yield Finding("locked versions", "warning", text, _install_command(surroundings))
    elif differing:
        yield Finding(
            "locked versions", "note", f"differ, but not in what numbers depend on: {_some(differing.values())}"
        )
    else:
        yield Finding("locked versions", "ok", f"those of {LOCK}")


def commands(_: Surroundings) -> Iterator[Finding]:
    """Look whether the commands that a shell and Snakemake's jobs find are those of this environment."""
    scripts = Path(sysconfig.get_path("scripts"))
    activate = scripts / "activate"
    remedy = f"source {_quoted(activate)}" if activate.is_file() else f"export PATH={_quoted(scripts)}:$PATH"
    found = {name: shutil.which(name) for name in ("dctkd", "snakemake")}
    for name, path in found.items():
        consequence = "jobs call it" if name == "dctkd" else "it is not of this environment"
        if path is None:
            yield Finding("commands", "problem", f"{name} is not on PATH", remedy)
        elif not _is_in(Path(path), scripts):
            yield Finding(
                "commands", "warning", f"{name} on PATH is {path}, not that in {scripts}; {consequence}", remedy
            )
    if all(path is not None and _is_in(Path(path), scripts) for path in found.values()):
        yield Finding("commands", "ok", "dctkd and snakemake on PATH are of this environment")


def bytecode(_: Surroundings) -> Iterator[Finding]:
    """Look whether Python may keep what it compiles; only missing files of the large packages cost time."""
    if not sys.dont_write_bytecode:
        yield Finding("bytecode", "ok", "Python keeps compiled modules")
        return
    text = "PYTHONDONTWRITEBYTECODE is set"
    compiled = {name: _is_compiled(name) for name in ("torch", "timm")}
    if all(compiled.values()):
        yield Finding("bytecode", "note", f"{text}; torch and timm are compiled all the same")
    else:
        text = f"{text}: every job compiles torch and timm again, imports take twice as long"
        yield Finding("bytecode", "warning", text, "unset PYTHONDONTWRITEBYTECODE")


def thread_variables(_: Surroundings) -> Iterator[Finding]:
    """Tell of variables that the user may believe in, and of those that slow jobs down."""
    ignored = [f"{name}={os.environ[name]}" for name in IGNORED_VARIABLES if name in os.environ]
    pinning = [name for name in PINNING_VARIABLES if name in os.environ]
    if ignored:
        text = f"{', '.join(ignored)} not heeded in training: `threads` of the recipe decides"
        yield Finding("threads", "note", text)
    if pinning:
        text = f"{', '.join(pinning)} can tie all jobs to the same cores"
        yield Finding("threads", "warning", text, f"unset {' '.join(pinning)}")


def git(surroundings: Surroundings) -> Iterator[Finding]:
    """Tell which code runs record."""
    commit, is_dirty = git_state()
    if commit is not None:
        text = f"commit {commit[:10]}" + (", with changes that are not committed: runs record that" if is_dirty else "")
        yield Finding("git", "note" if is_dirty else "ok", text)
    elif not (surroundings.checkout / ".git").exists():
        yield Finding("git", "note", "the package is in no git checkout: runs record its version, no commit")
    elif shutil.which("git") is None:
        yield Finding("git", "note", "there is no git command: runs record no commit")
    else:
        text = "git refuses to read the checkout, maybe because it belongs to another user: runs record no commit"
        remedy = f"git config --global --add safe.directory {_quoted(surroundings.checkout)}"
        yield Finding("git", "warning", text, remedy)


def working_folder(surroundings: Surroundings) -> Iterator[Finding]:
    """Look whether Snakemake finds its Snakefile here."""
    checkout = surroundings.checkout
    if not (surroundings.folder / "Snakefile").exists() and (checkout / "Snakefile").exists():
        text = "there is no Snakefile in this folder, so snakemake does not run here"
        yield Finding("working folder", "note", text, f"cd {_quoted(checkout)}")


CHECKS = (working_folder, python, packages, locked_versions, commands, bytecode, thread_variables, git)


@dataclass(frozen=True)
class _Project:
    """What the package requires: versions of Python, and of other packages."""

    python: str
    dependencies: list[str]


def _project(surroundings: Surroundings) -> _Project:
    """What the package requires: from its checkout, else from what is installed."""
    from packaging.requirements import Requirement

    file = surroundings.checkout / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        return _Project(project["requires-python"], project["dependencies"])
    installed = metadata.metadata("dctkd")
    required = [str(text) for text in installed.get_all("Requires-Dist", [])]
    runtime = [text for text in required if _applies(Requirement(text))]
    return _Project(str(installed["Requires-Python"]), runtime)


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _broken_requirements(texts: Iterable[str]) -> Iterator[str]:
    """Walk from the package's own requirements over those of what is installed."""
    from packaging.requirements import Requirement

    waiting, seen = [Requirement(text) for text in texts], set()
    while waiting:
        requirement = waiting.pop()
        found = _version_of(requirement.name)
        if found is None:
            yield requirement.name
        elif not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} {found} (needed: {requirement.specifier})"
        elif requirement.name not in seen:
            seen.add(requirement.name)
            inner = [Requirement(text) for text in metadata.requires(requirement.name) or ()]
            waiting += [other for other in inner if _applies(other)]


def _requirements_of_lock(lock: Path) -> Iterator[Requirement]:
    """Read the pins of a lock file; continuation lines hold hashes."""
    from packaging.requirements import InvalidRequirement, Requirement

    for line in lock.read_text(encoding="utf-8").splitlines():
        text = line.removesuffix("\\").strip()
        if not text or line[0] in " \t#":
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if _applies(requirement):
            yield requirement


def _version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _install_command(surroundings: Surroundings) -> str:
    checkout = surroundings.checkout
    if not (checkout / LOCK).is_file():
        return f"{_quoted(Path(sys.executable))} -m pip install --upgrade dctkd"
    if Path(sys.prefix) == checkout / ".venv":
        return f"rm -f {_quoted(checkout / '.venv/.ready')} && make -C {_quoted(checkout)} env"
    return f"uv pip install --python {_quoted(Path(sys.executable))} --requirement {_quoted(checkout / LOCK)}"


def _is_in(command: Path, scripts: Path) -> bool:
    return scripts.resolve() in (command.parent.resolve(), command.resolve().parent)  # a link to it will do


def _is_compiled(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return True  # nothing to compile; that it is missing is told elsewhere
    return Path(importlib.util.cache_from_source(spec.origin)).is_file()


def _some(texts: Iterable[str]) -> str:
    names = list(texts)
    more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return f"{', '.join(names[:NUM_NAMED])}{more}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
