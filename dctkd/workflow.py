"""How a Snakefile gets its plan. Imports neither torch nor timm: every cluster job parses the Snakefile again."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dctkd.config import Experiment, resolve
from dctkd.demand import Demand, Sizes, key_of
from dctkd.engine.device import DeviceKind, resolve_device
from dctkd.errors import InputError
from dctkd.late_files import latency_of, settled
from dctkd.places import RESULTS, SHARED
from dctkd.plan import Plan, for_cluster, make_plan
from dctkd.plan_file import read_plan
from dctkd.provenance import write_atomic
from dctkd.site import with_site
from dctkd.yaml_text import read_yaml

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Slots:
    """What Snakemake may hand out.

    Attributes:
        cores: Of this machine; None if jobs run elsewhere.
        jobs: Jobs that a batch system may have at a time; None if all run on this machine.
        gpus: GPUs that jobs may hold at a time; None if they are not counted.
    """

    cores: int | None = None
    jobs: int | None = None
    gpus: int | None = None

    @property
    def is_cluster(self) -> bool:
        """Tell whether jobs run on other machines, of which this one knows nothing."""
        return self.jobs is not None

    def device_of(self, wanted: str) -> DeviceKind:
        """Return the kind of device that jobs compute on; on a cluster `auto` is a GPU if there are some to hand out.

        Raises:
            InputError: If `wanted` is something else than auto, cpu or cuda.
        """
        if self.is_cluster and wanted == "auto":
            return "cuda" if self.gpus else "cpu"
        return resolve_device(wanted)

    def num_jobs(self, config: Experiment, kind: DeviceKind) -> int | None:
        """Return how many jobs that train students can run at a time, None if that is not known."""
        recipe = config.recipes[config.student_recipe]
        processes = recipe.processes or 1
        if kind == "cuda" and self.gpus:
            return max(min(self.gpus // processes, self.jobs or self.gpus), 1)
        if self.is_cluster or self.cores is None or kind == "cuda":
            return self.jobs
        return max(self.cores // (recipe.threads * processes), 1)


def plan_path(experiment: str, results: Path = RESULTS) -> Path:
    """Return where the plan of an experiment is written when Snakemake starts."""
    return results / experiment / "plan.json"


def _sizes_path(experiment: str) -> Path:
    return plan_path(experiment).with_name("sizes.json")


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


def open_plan(config: Mapping[str, Any], *, files: Sequence[str], results: Path, slots: Slots, is_main: bool) -> Plan:
    """Return the plan for a Snakefile; a mistake in the config ends Snakemake with one line and status 2.

    Args:
        config: Snakemake's merged config.
        files: The config files it came from; the last one names it in messages, and method files are relative to it.
        results: Where jobs find declared files: results/, or Snakemake's folder of copies where they travel through
            object storage. A job may then have to make the plan again, so it must not depend on `slots`:
            `students_per_job: auto` is `all`.
        slots: What Snakemake may hand out.
        is_main: False in the jobs that Snakemake spawns: they read the plan that the main process wrote, so that
            packs are cut once.
    """
    where = _from_here(Path(files[-1])) if files else "config"

    def plan() -> Plan:
        if is_main:
            _check_files(files)
        experiment = resolve(with_site(config), where=where)
        written = plan_path(experiment.experiment, results)
        latency_s = latency_of(written, experiment.shared_results, experiment.latency_s)
        if not is_main and settled(written.exists, bool, written.parent, latency_s):
            return read_plan(written)
        return _made(experiment, where, None if results != RESULTS else slots)

    return or_stop(plan)


def _made(experiment: Experiment, where: str, slots: Slots | None) -> Plan:
    """Make the plan; for jobs on other machines that may have to make it again, `slots` is None."""
    if slots is None:
        made = make_plan(experiment, config_file=where)
        _require_networks(made)
        return for_cluster(made, jobs=None, at_most=None)
    kind = slots.device_of(experiment.device)
    if slots.is_cluster:  # a node of another kind than this one must not choose anew
        experiment = experiment.model_copy(update={"device": kind})
    jobs = slots.num_jobs(experiment, kind)
    made = make_plan(experiment, config_file=where, jobs=jobs)
    _require_networks(made)
    if not slots.is_cluster:
        return made
    limit_h = experiment.job_hours
    at_most = None if limit_h is None else demand_of(made, slots).students_within(limit_h)
    return for_cluster(made, jobs=jobs, at_most=at_most)


def _require_networks(plan: Plan) -> None:
    recipes = plan.config.recipes.values()
    if any(recipe.micro_batch or recipe.processes or recipe.frozen_stages for recipe in recipes):
        from dctkd.engine.build import require_networks  # imports timm: only who needs it pays for it

        try:
            require_networks(plan)
        except InputError as error:  # of networks, which know nothing of the file
            raise InputError(f"{plan.config_file}: {error}") from error


def demand_of(plan: Plan, slots: Slots) -> Demand:
    """Return what the jobs of a plan ask for; on a cluster the main process measures once how large networks are.

    What was measured is kept beside the plan. It changes when and where jobs run, never what they compute.
    """
    kind = slots.device_of(plan.config.device)
    path = _sizes_path(plan.name)
    sizes = Sizes.read(path, key=key_of(plan))
    if sizes is None and slots.is_cluster:
        sizes = or_stop(lambda: _measured(plan, path))
    return Demand(plan, sizes, kind)


def _measured(plan: Plan, path: Path) -> Sizes:
    """Have a process of its own measure: torch would stay in this one, which lives as long as the experiment."""
    with tempfile.TemporaryDirectory() as place:
        written = Path(place) / "plan.json"
        written.write_text(plan.to_json())
        command = [sys.executable, "-m", "dctkd.engine.sizes", str(written), str(path.parents[1]), str(path)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    sizes = Sizes.read(path, key=key_of(plan))
    if sizes is None:
        raise InputError(done.stderr.strip() or f"{path}: networks cannot be measured (status {done.returncode})")
    return sizes


def ignore_time_warnings() -> None:
    """Let a job's own Snakemake outlive the signal that its time is nearly over, so that the job can be saved.

    A batch system sends SIGUSR1 to all processes of a job. Those that train take it as a request to save and stop; the
    Snakemake above them would die of it, and they with it.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def or_stop(ask: Callable[[], Answer]) -> Answer:
    """Return the answer to a question; a mistake of the user's ends Snakemake with one line and status 2."""
    try:
        return ask()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
