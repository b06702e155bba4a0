"""Costs of an experiment's networks and methods, for the tables and for the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dctkd import methods
from dctkd.engine.build import method_of, pair_networks
from dctkd.engine.census import Census
from dctkd.engine.objective import num_state_tensors
from dctkd.identity import Identity
from dctkd.methods.base import DataSpec
from dctkd.metrics.cost import checkpoint_bytes, measure_method, measure_model
from dctkd.models import StageModel, spec
from dctkd.plan import Plan, Run


def measure_costs(plan: Plan, census: Mapping[str, Census]) -> dict[str, Any]:
    """Count every network and method of an experiment once.

    Args:
        plan: The experiment.
        census: Size of each dataset.

    Returns:
        `models`: `<dataset>/<model>` to MACs and parameters; `methods`: `<dataset>/<pair>/<row>` to what the row adds
        in training, the bytes of its checkpoint, and the paired stages.
    """
    models: dict[str, Any] = {}
    rows: dict[str, Any] = {}
    networks: tuple[StageModel, StageModel] | None = None
    built = ""
    for run in plan.runs:
        if run.seed != plan.config.seeds[0]:
            continue
        pair = f"{run.dataset}/{run.pair}"
        if f"{pair}/{run.method}" in rows:
            continue
        if networks is None or built != pair:  # the runs of a pair follow each other: no more than two are kept
            networks, built = pair_networks(run, census[run.dataset].num_classes), pair
        student, teacher = networks
        crop = run.identity["data"]["input"]["crop"]
        for name, model in ((run.teacher, teacher), (run.student, student)):
            key = f"{run.dataset}/{name}"
            if key not in models:
                models[key] = measure_model(model, input_size=crop).to_dict()
        rows[f"{pair}/{run.method}"] = _row(plan, run, student, teacher, census[run.dataset])
    return {"models": models, "methods": rows}


def _row(plan: Plan, run: Run, student: StageModel, teacher: StageModel, size: Census) -> dict[str, Any]:
    identity = Identity.model_validate(run.identity)
    assert identity.method is not None
    crop = identity.data.input.crop
    labels = tuple(index % size.num_classes for index in range(size.num_trained(identity.recipe)))
    data = DataSpec(size.num_classes, len(labels), labels)
    student_spec, teacher_spec = spec(student, crop), spec(teacher, crop)
    method = methods.create(method_of(plan, run), student_spec, teacher_spec, data, **identity.method.options)
    cost = measure_method(method, student_spec, teacher_spec, input_size=crop, batch_size=identity.recipe.batch_size)
    return {
        **cost.to_dict(),
        "checkpoint_bytes": checkpoint_bytes(
            student, method, optimizer_buffers=num_state_tensors(identity.recipe.optimiser)
        ),
    }
