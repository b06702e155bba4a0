"""What a run leaves behind in its folder of the store, from config.yaml at its start to metrics.json, its last act."""

from __future__ import annotations

import json
import logging
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from safetensors.torch import save as to_safetensors

from dctkd.data.cache import PixelCache
from dctkd.engine.best_epochs import results_of_best, weights_of_best
from dctkd.engine.checkpoint import delete_checkpoints
from dctkd.engine.columns import column_of_numbers, column_of_texts
from dctkd.engine.energy import POWERCAP, EnergyMeter
from dctkd.engine.evaluate import Evaluation
from dctkd.engine.job import Job, Task
from dctkd.engine.learner import Learner
from dctkd.engine.train import TeacherPass
from dctkd.methods.base import Batch
from dctkd.metrics import Result
from dctkd.models import Outputs, StageModel, state_dict_for_export
from dctkd.provenance import environment, sha256_of_bytes, write_atomic
from dctkd.store import write_json

logger = logging.getLogger(__name__)

OUT_OF_MEMORY_REMEDY = (
    "give it a device with more memory, or another recipe: a smaller batch_size, or micro_batch where the network has "
    "no batch normalisation"
)


@dataclass
class Speed:
    """Clock and energy meter of a job, set-up outside. The teacher's pass is timed apart from the learners' steps.

    Attributes:
        energy: Counts from the start of the clock on.
    """

    job: Job
    num_learners: int
    device: torch.device
    teacher_pass_s: float = 0.0
    evaluation_s: float = 0.0
    started_s: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.energy = EnergyMeter(self.device, powercap=POWERCAP)

    def timed_teacher(self, teacher: TeacherPass) -> TeacherPass:
        """Return the teacher's pass with its seconds measured."""

        def run(batch: Batch) -> Outputs:
            started = time.perf_counter()
            outputs = teacher(batch)
            self.teacher_pass_s += time.perf_counter() - started
            return outputs

        return run

    def take_teacher_pass_s(self) -> float:
        """Return the seconds of the teacher's passes since the last call."""
        seconds, self.teacher_pass_s = self.teacher_pass_s, 0.0
        return seconds

    @contextmanager
    def timing_evaluation(self) -> Iterator[None]:
        """Count the block's seconds as evaluation."""
        started = time.perf_counter()
        yield
        self.evaluation_s += time.perf_counter() - started

    def peak_memory_bytes(self) -> int:
        """Return the process's peak: allocated GPU memory, or resident memory on CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def record(self, learner: Learner) -> dict[str, Any]:
        """Return the content of timing.json.

        images/s counts the learner's own steps and one teacher pass per step: what the run would take alone, also
        when it shared the pass.

        job_energy_joules is the energy of the whole device that the job computes on (all processor packages, or the
        GPU), job_cpu_energy_joules that of the processor packages: of every student of the pack and of whatever else
        ran there, since the job's last start, over the same time as wall_seconds. None where the hardware does not
        tell. Of several processes the first one's times, memory and GPU count; images are those of whole batches.
        """
        joules = self.energy.read()
        own_and_teacher_s = learner.own_steps_s + learner.teacher_passes_s
        return {
            "train_seconds": own_and_teacher_s,
            "own_step_seconds": learner.own_steps_s,
            "teacher_pass_seconds": learner.teacher_passes_s,
            "train_images_per_second": learner.images_seen / own_and_teacher_s if own_and_teacher_s else None,
            "eval_seconds": self.evaluation_s,
            "wall_seconds": time.perf_counter() - self.started_s,
            "job_energy_joules": joules[self.device.type],
            "job_cpu_energy_joules": joules["cpu"],
            "peak_memory_bytes": self.peak_memory_bytes(),
            "students_in_pack": self.num_learners,
            "device": self.device.type,
            "threads": learner.identity.recipe.threads,
            "processes": learner.identity.recipe.processes or 1,
        }


@dataclass(frozen=True)
class RunRecord:
    """Writer of one run's folder."""

    job: Job
    task: Task

    def start(self, pairing: tuple[tuple[int, int], ...]) -> None:
        """Write config.yaml and environment.json."""
        config = {
            "run": self.task.run.names(),
            "digest": self.task.folder.digest,
            "spec": self.task.run.spec,
            "experiment_file": self.job.plan.config_file,
            "dataset_fingerprint": self.job.data["fingerprint"],
            "teacher_digest": self.job.teacher_folder.digest if self.job.teacher_folder else None,
            "precision": self.task.precision,
            "pretrained_sha256": self.task.pretrained_sha256,
            "stage_pairs_student_teacher": [list(pair) for pair in pairing],
            "identity": dict(self.task.run.identity),
        }
        folder = self.task.folder.path
        write_atomic(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        now = environment(self.job.device, self.task.precision, int(self.task.run.identity["recipe"]["threads"]))
        former = _read_json(folder / "environment.json")
        platforms = former.get("platforms", [])
        platforms += [now["platform"]] if now["platform"] not in platforms else []
        write_json(folder / "environment.json", {**now, "platforms": platforms, "mixed_platform": len(platforms) > 1})

    def progress(self, learner: Learner, speed: Speed) -> None:
        """Write history.jsonl, state.json and a line of log.txt at the end of an epoch, if the disk lets it."""
        try:
            self._progress(learner, speed)
        except OSError as error:
            logger.warning("%s: its progress cannot be written (%s); it goes on", self.task.run.path, error)

    def _progress(self, learner: Learner, speed: Speed) -> None:
        self._history(learner)
        rate = speed.record(learner)["train_images_per_second"]
        self.task.folder.write_state(
            {
                "status": "running",
                "spec": self.task.run.spec,
                "path": self.task.run.path,
                "step": learner.step,
                "total_steps": learner.shape.total_steps,
                "epoch": learner.epoch,
                "wall_s": time.perf_counter() - speed.started_s,
            }
        )
        values = {key: learner.last("train", key) for key in ("loss", "top1_percent", "lr")}
        tested = learner.last("test", "top1_percent")
        line = f"epoch {learner.epoch} loss {values['loss']:.4f} train top-1 {values['top1_percent']:.2f} % "
        line += f"lr {values['lr']:.3g} {rate:.0f} images/s"
        line += f" test top-1 {tested:.2f} %" if tested is not None else ""
        self._log(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {line}")
        logger.info("%s: %s", self.task.run.path, line)

    def _log(self, text: str) -> None:
        flags = (
            os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        )  # a link in its place must not be written through
        with os.fdopen(os.open(self.task.folder.path / "log.txt", flags, 0o644), "a", encoding="utf-8") as log:
            log.write(text + "\n")

    def finish(self, learner: Learner, evaluation: Evaluation, cache: PixelCache, speed: Speed) -> None:
        """Store a result: predictions, weights, timing, their seal, then metrics.json."""
        folder = self.task.folder.path
        self._history(learner)
        results = [*evaluation.results, *evaluation.held_out, *results_of_best(learner)]
        weights = exported_weights(learner.model)
        predictions = _predictions(evaluation, cache)
        keep = self.job.plan.config.keep_weights
        if keep != "none" or self.task.run.student is None:
            write_atomic(folder / "weights.safetensors", weights)
        for name, best in weights_of_best(learner).items() if keep == "all" else ():
            write_atomic(folder / name, best)
        write_atomic(folder / "predictions.parquet", predictions)
        write_json(folder / "timing.json", speed.record(learner))
        self._metrics(
            "ok",
            results,
            {"weights_sha256": sha256_of_bytes(weights), "predictions_sha256": sha256_of_bytes(predictions)},
        )

    def finish_without_result(self, learner: Learner, speed: Speed) -> None:
        """Store that a run diverged or does not fit into memory: that is a result too."""
        self.finish_with(ending_of(learner, speed))

    def finish_with(self, ending: dict[str, Any]) -> None:
        """Store what `ending_of` returned, perhaps in another process."""
        folder = self.task.folder.path
        if ending["history"]:
            write_atomic(folder / "history.jsonl", ending["history"])
        write_json(folder / "timing.json", ending["timing"])
        self._metrics(ending["status"], [], {"detail": ending["detail"]})

    def _history(self, learner: Learner) -> None:
        if learner.history:
            write_atomic(self.task.folder.path / "history.jsonl", learner.history_text())

    def _metrics(self, status: str, results: list[Result], more: dict[str, Any]) -> None:
        folder = self.task.folder
        run = self.task.run
        folder.seal()
        folder.finish(
            {
                "status": status,
                "spec": run.spec,
                "kind": run.identity["kind"],
                "seed": run.seed,
                "run": run.names(),
                "results": [result.to_dict() for result in results],
                **more,
            }
        )
        (folder.path / "state.json").unlink(missing_ok=True)
        delete_checkpoints(folder.path)

    def crash(self, reason: str, trace: str) -> None:
        """Note why a run crashed; it is trained again on the next call."""
        self.task.folder.path.mkdir(parents=True, exist_ok=True)
        self._log(trace)
        self.task.folder.write_state(
            {"status": "failed", "spec": self.task.run.spec, "path": self.task.run.path, "reason": reason}
        )


def ending_of(learner: Learner, speed: Speed) -> dict[str, Any]:
    """Return what is stored of a run that has failed and has no result, as JSON values."""
    assert learner.failure is not None
    status = learner.failure.kind
    detail = {
        "epoch": learner.epoch,
        "step": learner.step,
        "reason": learner.failure.reason,
        "last_finite": learner.last_finite,
        **({"remedy": OUT_OF_MEMORY_REMEDY} if status == "oom" else {}),
    }
    timing = speed.record(learner)
    return {"status": status, "detail": detail, "history": learner.history_text(), "timing": timing}


def exported_weights(model: StageModel) -> bytes:
    """Return a plain timm checkpoint as safetensors bytes; the same tensors give the same bytes."""
    return to_safetensors(
        {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict_for_export(model).items()}
    )


def _predictions(evaluation: Evaluation, cache: PixelCache) -> bytes:
    ids = cache.ids("test")
    columns = {"id": column_of_texts([ids[int(index)] for index in evaluation.predictions["index"]])}
    columns |= {name: column_of_numbers(values) for name, values in evaluation.predictions.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(list(columns.values()), names=list(columns)), sink, compression="zstd")
    return bytes(sink.getvalue())


def _read_json(path: Any) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
