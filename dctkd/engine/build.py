"""From a run's identity to its learner: network, method, objective, each initialised from its own random state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dctkd import methods
from dctkd.data.cache import PixelCache
from dctkd.engine.device import resolve_device
from dctkd.engine.job import Job, Task
from dctkd.engine.learner import Learner, LoopShape
from dctkd.engine.objective import Objective
from dctkd.engine.rng import RandomState
from dctkd.errors import InputError
from dctkd.freezing import freeze_first_stages, require_freezable
from dctkd.identity import Identity, ModelIdentity, method_file
from dctkd.methods.base import DataSpec, Method
from dctkd.models import ModelSpec, StageModel, batch_norm_of, build_model, describe_stages, first_batch_norm, spec
from dctkd.plan import Plan, Run, pair_stages

Pairing = tuple[tuple[int, int], ...]


def stages_of(identity: Identity) -> Pairing:
    """Return the (student stage, teacher stage) pairs of a run; for a teacher's own training there are none.

    Raises:
        InputError: If the networks have no common depth, or the config names a stage that does not exist.
    """
    if identity.teacher_model is None or identity.stages is None:
        return ()
    student = describe_stages(identity.model.architecture, identity.model.options)
    teacher = describe_stages(identity.teacher_model.architecture, identity.teacher_model.options)
    if identity.stages == "auto":
        return pair_stages(student, teacher)
    for position, stages, role in ((0, student, "student"), (1, teacher, "teacher")):
        if bad := [pair[position] for pair in identity.stages if not 0 <= pair[position] < len(stages)]:
            last = len(stages) - 1
            raise InputError(f"pairs.stages: {role} stage {bad[0]} does not exist; it has stages 0 to {last}")
    return identity.stages


def require_networks(plan: Plan) -> None:
    """Refuse recipes that do not go with the networks: batches that cannot be split, stages that cannot be frozen.

    Raises:
        InputError: With the recipe, the network or row, and what is amiss.
    """
    require_separable_batches(plan)
    require_freezable_stages(plan)


def require_freezable_stages(plan: Plan) -> None:
    """Refuse to freeze stages that a network does not have.

    Raises:
        InputError: With the recipe and the network.
    """
    for recipe, runs in ((plan.config.teacher_recipe, plan.teachers), (plan.config.student_recipe, plan.runs)):
        num_stages = plan.config.recipes[recipe].frozen_stages
        if num_stages is None:
            continue
        for name, crop in sorted({(run.student or run.teacher, run.identity["data"]["input"]["crop"]) for run in runs}):
            model = plan.config.models[name]
            try:
                require_freezable(model.architecture, model.options, num_stages, input_size=crop)
            except InputError as error:
                where = f"recipes.{recipe}.frozen_stages: {model.architecture} (models.{name})"
                raise InputError(f"{where}: {error}") from error


def require_separable_batches(plan: Plan) -> None:
    """Refuse to split batches where batch normalisation, in a network or a method's layers, would see only the parts.

    That is so with `micro_batch`, and with `processes` on a CPU, where torch cannot synchronise it.

    Raises:
        InputError: With the recipe, the network or row, and the layer.
    """
    for recipe, runs in ((plan.config.teacher_recipe, plan.teachers), (plan.config.student_recipe, plan.runs)):
        if (split := _split_of(plan, recipe)) is None:
            continue
        key, reason, remedy = split
        where = f"recipes.{recipe}.{key}"
        for name in sorted({run.student or run.teacher for run in runs}):
            model = plan.config.models[name]
            if (layer := batch_norm_of(model.architecture, model.options)) is not None:
                raise InputError(
                    f"{where}: {model.architecture} (models.{name}) normalises over the batch ({layer}), {reason}; "
                    f"{remedy}, or take a network with group or layer normalisation "
                    "(options: {norm_layer: groupnorm})"
                )
        for run in {(run.pair, run.method): run for run in runs if run.student is not None}.values():
            if (layer := _batch_norm_of_method(plan, run)) is not None:
                raise InputError(
                    f"{where}: the layers of row {run.method} normalise over the batch ({layer}), {reason}; "
                    f"{remedy}, or the row"
                )


def _split_of(plan: Plan, recipe: str) -> tuple[str, str, str] | None:
    """Return the key by which a recipe splits what batch normalisation sees, why it must not, and the remedy."""
    settings = plan.config.recipes[recipe]
    if settings.micro_batch is not None:
        return "micro_batch", "so smaller batches would be another experiment", "remove micro_batch"
    is_left_alone = settings.processes is None or settings.synchronise_batch_norm is False
    if is_left_alone or resolve_device(plan.config.device) == "cuda":
        return None
    reason = "which torch can do for several processes on GPUs only"
    return "processes", reason, "set synchronise_batch_norm: false (statistics of each process), remove processes"


def _batch_norm_of_method(plan: Plan, run: Run) -> str | None:
    student, teacher = pair_networks(run, num_classes=2)
    crop = run.identity["data"]["input"]["crop"]
    data = DataSpec(num_classes=2, num_train_images=2, labels=(0, 1))
    options = run.identity["method"]["options"]
    with torch.device("meta"):
        method = methods.create(method_of(plan, run), spec(student, crop), spec(teacher, crop), data, **options)
    return first_batch_norm(method)


def pair_networks(run: Run, num_classes: int) -> tuple[StageModel, StageModel]:
    """Return an untrained student and teacher of a run, for counting and timing; the student's frozen stages are so."""
    identity = Identity.model_validate(run.identity)
    assert identity.teacher_model is not None
    pairing = stages_of(identity)
    crop = identity.data.input.crop
    student, teacher = (
        network_of(model, num_classes, [pair[position] for pair in pairing], crop, weights=None, pretrained=False)
        for position, model in enumerate((identity.model, identity.teacher_model))
    )
    freeze(student, identity)
    return student, teacher


def method_of(plan: Plan, run: Run) -> str | type[Method]:
    """Return what `methods.create` takes: the name of a method, or the class in the user's file.

    Raises:
        InputError: If that file is not the one that the plan was made with; it is not run then.
    """
    assert run.method is not None
    file = method_file(plan.config.methods[run.method], Path(plan.config_file).parent)
    identity = run.identity["method"]
    return str(identity["method"]) if file is None else methods.load_method(file, sha256=identity["source_sha256"])


def build_teacher(job: Job, cache: PixelCache, pairing: Pairing, device: torch.device) -> tuple[StageModel, ModelSpec]:
    """Load a trained teacher from the store.

    Raises:
        InputError: If its weights are gone, or anything of it is damaged.
    """
    assert job.teacher is not None
    assert job.teacher_folder is not None
    identity = Identity.model_validate(job.teacher.identity)
    weights = job.teacher_folder.path / "weights.safetensors"
    if not job.teacher_folder.has_file(weights.name):
        edge = job.store.results / job.teacher.path
        raise InputError(
            f"{weights}: the teacher's weights are gone; delete {job.teacher_folder.path} and {edge}, "
            "then run snakemake again"
        )
    job.teacher_folder.require_whole()
    indices = [teacher for _, teacher in pairing]
    model = network_of(
        identity.model, len(cache.classes), indices, identity.data.input.crop, weights=weights, pretrained=False
    )
    return model.to(device).to(memory_format=torch.channels_last), spec(model, identity.data.input.crop)


def build_learner(
    job: Job, task: Task, cache: PixelCache, shape: LoopShape, pairing: Pairing, teacher: ModelSpec | None
) -> Learner:
    """Set a run to its start.

    The student's first weights depend on the seed alone, so all methods of a seed start from one network and the
    comparison is paired; the method's own layers depend on seed and method.

    Args:
        job: The job that the task belongs to.
        task: The run.
        cache: Its images.
        shape: Length and place of the run.
        pairing: Paired stages; empty for a teacher.
        teacher: Shapes of the teacher; None for a teacher's own training.
    """
    identity = Identity.model_validate(task.run.identity)
    crop = identity.data.input.crop
    name = task.run.student or task.run.teacher
    with RandomState("weights", identity.kind, identity.seed).active():
        model = network_of(
            identity.model,
            len(cache.classes),
            [student for student, _ in pairing],
            crop,
            weights=job.plan.config.models[name].weights,
            pretrained=identity.model.pretrained,
            may_replace_classifier=identity.recipe.epochs > 0,  # else the new one would stay as it was drawn
        )
    freeze(model, identity)
    objective = Objective(identity.method, None, label_smoothing=identity.recipe.label_smoothing)
    if identity.method is not None and teacher is not None:
        with RandomState("method weights", identity.method.method, identity.seed).active():
            objective.method = _method(job, task, identity.method.options, spec(model, crop), teacher, cache)
    model = model.to(shape.device).to(memory_format=torch.channels_last)
    objective = objective.to(shape.device)
    if identity.recipe.synchronise_batch_norm is not False:
        for module in (model, objective):
            shape.ranks.synchronise(module)
    return Learner(task.run.path, task.folder.digest, identity, model, objective, shape)


def freeze(model: StageModel, identity: Identity) -> None:
    """Freeze what the recipe of a run wants frozen."""
    if identity.recipe.frozen_stages is not None:
        freeze_first_stages(model, identity.recipe.frozen_stages, input_size=identity.data.input.crop)


def network_of(
    identity: ModelIdentity,
    num_classes: int,
    indices: list[int],
    crop: int,
    *,
    weights: Path | None,
    pretrained: bool,
    may_replace_classifier: bool = False,
) -> StageModel:
    """Build a network; `weights` and `pretrained` say where it starts from."""
    return build_model(
        identity.architecture,
        num_classes=num_classes,
        stage_indices=indices,
        options=identity.options,
        weights=weights,
        pretrained=pretrained,
        may_replace_classifier=may_replace_classifier,
        input_size=crop,
    )


def _method(
    job: Job, task: Task, options: Mapping[str, Any], student: ModelSpec, teacher: ModelSpec, cache: PixelCache
) -> Method:
    labels = tuple(int(label) for label in cache.labels("train"))
    data = DataSpec(num_classes=len(cache.classes), num_train_images=len(labels), labels=labels)
    return methods.create(method_of(job.plan, task.run), student, teacher, data, **options)
