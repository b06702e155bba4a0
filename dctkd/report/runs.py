"""Every run of an experiment, as one can follow it from a number: digest, config, seed, environment, command.

`runs.json` stands beside the tables: a CSV row names digests, and here each digest has what made it. It names no host
and no time, so that the same runs give the same bytes and the file can be published.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dctkd.report.collect import TEACHER, Collected
from dctkd.report.edges import FoundRun, rerun_command

ENVIRONMENT_KEYS = ("git_commit", "git_dirty", "dctkd", "packages", "python", "platform", "mixed_platform")
"""Of environment.json; without the host's name and the time of the start."""


def describe_runs(collected: Collected) -> dict[str, Any]:
    """Return the content of runs.json.

    Returns:
        experiment, config_file, command (all tables), environments (each distinct one once), and runs: digest, spec,
        path below results/, dataset, pair (empty for a teacher), method, seed, status, detail, results, command, config
        (the text of config.yaml), and the position of its environment; both null where the store lacks the file.
    """
    plan = collected.plan
    environments: dict[str, int] = {}
    runs = [_describe_run(collected, one, environments) for one in collected.found]
    return {
        "experiment": plan.name,
        "title": plan.config.title,
        "config_file": plan.config_file,
        "command": rerun_command(plan),
        "environments": [json.loads(text) for text in environments],
        "runs": runs,
    }


def _describe_run(collected: Collected, one: FoundRun, environments: dict[str, int]) -> dict[str, Any]:
    run, metrics = one.planned, one.metrics
    return {
        "digest": metrics.digest,
        "spec": metrics.spec,
        "path": run.path,
        "dataset": run.dataset,
        "pair": run.pair or "",
        "network": run.student or run.teacher,
        "method": run.method or TEACHER,
        "seed": run.seed,
        "status": metrics.status,
        "detail": metrics.detail,
        "results": [result.to_dict() for result in metrics.results],
        "command": rerun_command(collected.plan, f"results/{run.path}"),
        "environment": _position(collected.environments.get(metrics.digest), environments),
        "config": collected.evidence.config_text(metrics.digest),
    }


def _position(environment: Mapping[str, Any] | None, known: dict[str, int]) -> int | None:
    """Return the position of an environment among the distinct ones, and add it to them if it is new."""
    if environment is None:
        return None
    shown = {key: environment[key] for key in ENVIRONMENT_KEYS if key in environment}
    return known.setdefault(json.dumps(shown, sort_keys=True), len(known))
