"""How a Snakefile gets its plan. Imports neither torch nor timm: every cluster job parses the Snakefile again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dctkd.config import resolve
from dctkd.engine.device import resolve_device
from dctkd.errors import InputError
from dctkd.plan import Plan, make_plan, read_plan
from dctkd.yaml_text import read_yaml

Answer = TypeVar("Answer")


def plan_path(experiment: str, results: Path = Path("results")) -> Path:
    """Return where the plan of an experiment is written when Snakemake starts."""
    return results / experiment / "plan.json"


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
    config: Mapping[str, Any], *, files: Sequence[str], cores: int | None, gpus: int | None, is_main: bool
) -> Plan:
    """Return the plan for a Snakefile; a mistake in the config ends Snakemake with one line and status 2.

    Args:
        config: Snakemake's merged config.
        files: The config files it came from; the last one names it in messages, and method files are relative to it.
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
        written = plan_path(experiment.experiment)
        if not is_main and written.exists():
            return read_plan(written)
        jobs = cores if resolve_device(experiment.device) == "cpu" else gpus
        made = make_plan(experiment, config_file=where, jobs=jobs)
        if any(recipe.micro_batch or recipe.processes for recipe in experiment.recipes.values()):
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
