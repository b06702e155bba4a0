"""How a Snakefile gets its plan. Imports neither torch nor timm: every cluster job parses the Snakefile again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dctkd.config import resolve
from dctkd.engine.device import resolve_device
from dctkd.errors import InputError
from dctkd.places import RESULTS, SHARED
from dctkd.plan import Plan, make_plan, read_plan
from dctkd.provenance import write_atomic
from dctkd.yaml_text import read_yaml

Answer = TypeVar("Answer")


def plan_path(experiment: str, results: Path = RESULTS) -> Path:
    """Return where the plan of an experiment is written when Snakemake starts."""
    return results / experiment / "plan.json"


def write_plan(plan: Plan, results: Path, *, is_main: bool) -> None:
    """Write the plan where its jobs read it.

    Where declared files travel through object storage, jobs have copies of them in another folder: the plan is written
    there too, and store and cache are linked there, from below results/.

    Args:
        plan: The experiment.
        results: Where jobs find declared files: results/, or Snakemake's folder of copies.
        is_main: False in the jobs that Snakemake spawns: they write only the copy, and only where it is missing, in a
            container with a working folder of its own.
    """
    if is_main:
        write_atomic(plan_path(plan.name), plan.to_json())
    if results == RESULTS:
        return
    copy = plan_path(plan.name, results)
    if is_main or not copy.exists():
        write_atomic(copy, plan.to_json())
    for name in SHARED:
        (RESULTS / name).mkdir(parents=True, exist_ok=True)
        if not (results / name).is_symlink():
            (results / name).symlink_to((RESULTS / name).absolute())


def _from_here(path: Path) -> str:
    """Return a path as it is best read in tables: relative to the working folder where it lies below it."""
    absolute = path.resolve()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else path)


def _check_files(files: Sequence[str]) -> None:
    """Read experiment files once more, by the rules of `dctkd plan`: Snakemake keeps the last of two equal keys."""
    for file in files:
        if Path(file).suffix != ".json":
            read_yaml(Path(_from_here(Path(file))))


def open_plan(
    config: Mapping[str, Any],
    *,
    files: Sequence[str],
    results: Path,
    cores: int | None,
    gpus: int | None,
    is_main: bool,
) -> Plan:
    """Return the plan for a Snakefile; a mistake in the config ends Snakemake with one line and status 2.

    Args:
        config: Snakemake's merged config.
        files: The config files it came from; the last one names it in messages, and method files are relative to it.
        results: Where jobs find declared files: results/, or Snakemake's folder of copies where they travel through
            object storage. A job may then have to make the plan again, so it must not depend on `cores` and `gpus`:
            `students_per_job: auto` is `all`.
        cores: Cores that Snakemake may use, None on a cluster.
        gpus: GPUs that Snakemake may hand out, None if it does not count them.
        is_main: False in the jobs that Snakemake spawns: they read the plan that the main process wrote, so that
            packs are cut once.
    """
    where = _from_here(Path(files[-1])) if files else "config"

    def plan() -> Plan:
        if is_main:
            _check_files(files)
        experiment = resolve(config, where=where)
        written = plan_path(experiment.experiment, results)
        if not is_main and written.exists():
            return read_plan(written)
        jobs = cores if resolve_device(experiment.device) == "cpu" else gpus
        jobs = jobs if results == RESULTS else None
        made = make_plan(experiment, config_file=where, jobs=jobs)
        if any(recipe.micro_batch is not None for recipe in experiment.recipes.values()):
            from dctkd.engine.build import require_separable_batches  # imports timm: who splits batches pays for it

            require_separable_batches(made)
        return made

    return or_stop(plan)


def or_stop(ask: Callable[[], Answer]) -> Answer:
    """Return the answer to a question; a mistake of the user's ends Snakemake with one line and status 2."""
    try:
        return ask()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
