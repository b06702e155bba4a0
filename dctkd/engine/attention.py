"""One pass over the test set that compares the maps of a teacher with those of all its students, image by image.

Shapes: B images, C channels, H rows, W columns, K classes, O object ids, N candidate images of the montage.
"""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from dctkd.data.annotations import Annotations, read_annotations
from dctkd.data.cache import PixelCache
from dctkd.data.central_crop import central_corners
from dctkd.engine.build import network_of, stages_of
from dctkd.engine.columns import column_of_numbers, column_of_texts
from dctkd.engine.gpu import job_device
from dctkd.engine.job import Job, make_job
from dctkd.engine.learner import LoopShape
from dctkd.engine.overlap import Wanted
from dctkd.engine.stream import Stream
from dctkd.functional.attention import activation_map, minmax_normalise
from dctkd.functional.dct import dct2
from dctkd.functional.gradcam import gradcam_maps
from dctkd.identity import Identity
from dctkd.methods.base import Batch
from dctkd.metrics import OVERLAP_VERSION, Result
from dctkd.metrics.objects import attend_objects, coverage
from dctkd.metrics.overlap import MAP_METRICS, compare_maps
from dctkd.models import Outputs, StageModel
from dctkd.plan import Plan
from dctkd.provenance import write_atomic
from dctkd.store import write_json
from dctkd.store.seal import SEAL

logger = logging.getLogger(__name__)

NUM_CANDIDATES = 64
"""Test images, evenly spaced, whose maps are kept for the montage."""
Key = tuple[str, str, str, str]
"""Network, map source, stage, metric."""


def measure(plan: Plan, wanted: Sequence[Wanted], results: Path, *, sources: Sequence[str], device: str) -> None:
    """Measure students of one dataset, pair and seed side by side; the teacher's maps are made once for all.

    Args:
        plan: The experiment.
        wanted: Finished runs whose weights are there.
        results: The results folder.
        sources: `activation`, `gradcam` or both.
        device: auto, cpu or cuda.

    Raises:
        InputError: If the teacher's run or a student's is damaged, or no GPU is free.
    """
    asked = make_job(plan, [one.run for one in wanted], results, device=device)
    with asked.with_pixels() as job, job_device(job.device) as place:
        _measure(job, wanted, sources, place)


def _measure(job: Job, wanted: Sequence[Wanted], sources: Sequence[str], place: torch.device) -> None:
    assert job.pixels is not None
    torch.set_num_threads(job.identity.recipe.threads)
    cache, identity, pairing = job.pixels, job.identity, stages_of(job.identity)
    shape = LoopShape(1, 1, place, _precision_of(wanted[0]))
    inputs, batch_size = identity.data.input, identity.recipe.batch_size
    stream = Stream(cache, inputs, 0, batch_size, 1, place, may_be_resident=False)  # each image is seen once
    annotations = read_annotations(
        cache,
        format_name=identity.data.format,
        options=identity.data.options,
        root=job.plan.data_root(wanted[0].run.dataset),
        crop=identity.data.input.crop,
    )
    assert job.teacher is not None
    assert job.teacher_folder is not None
    for folder in (job.teacher_folder, *(one.folder for one in wanted)):
        folder.require_whole()
    teacher = _network(
        Identity.model_validate(job.teacher.identity), [t for _, t in pairing], job.teacher_folder.path, cache, place
    )
    students = [
        _network(Identity.model_validate(one.run.identity), [s for s, _ in pairing], one.folder.path, cache, place)
        for one in wanted
    ]
    records = [_Record(cache.num_images("test")) for _ in students]
    of_teacher = _Record(cache.num_images("test"))
    objects = None if annotations is None else _Objects(annotations, identity.data.input.crop)
    for batch in stream.test():
        teacher_maps, logits_BK = _maps_of(teacher, batch, shape, sources)
        seen = None if objects is None else objects.of(batch)
        of_teacher.add_network("teacher", teacher_maps, seen, batch)
        correct_B = (logits_BK.argmax(dim=1) == batch.target_B).double()
        of_teacher.add(("teacher", "", "", "teacher_correct"), batch.index_B, correct_B)
        for student, record in zip(students, records, strict=True):
            student_maps, _ = _maps_of(student, batch, shape, sources)
            record.add_network("student", student_maps, seen, batch)
            record.add_overlap(student_maps, teacher_maps, batch)
    scenes = _scenes(cache, identity.data.input.crop, annotations)
    of_objects: list[Result] = []
    if annotations is not None:
        of_objects = [Result("attention_annotated_images", "", "test", annotations.num_annotated, "images")]
        for problem in annotations.problems:
            logger.warning("annotation not used: %s", problem)
    for one, record in zip(wanted, records, strict=True):
        _write(one, record.joined(of_teacher), cache.ids("test"), scenes, sources, of_objects)


def _precision_of(one: Wanted) -> Any:
    return yaml.safe_load((one.folder.path / "config.yaml").read_text(encoding="utf-8"))["precision"]


def _network(
    identity: Identity, indices: list[int], folder: Path, cache: PixelCache, device: torch.device
) -> StageModel:
    weights, crop = folder / "weights.safetensors", identity.data.input.crop
    model = network_of(identity.model, len(cache.classes), indices, crop, weights=weights, pretrained=False)
    return model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _maps_of(
    model: StageModel, batch: Batch, shape: LoopShape, sources: Sequence[str]
) -> tuple[dict[str, tuple[Tensor, ...]], Tensor]:
    """Return the maps of every stage by source, and the logits."""
    with torch.set_grad_enabled("gradcam" in sources), shape.autocast():
        images_BCHW = batch.images_BCHW
        if "gradcam" in sources:  # The maps must be part of a graph; the weights are frozen.
            images_BCHW = images_BCHW.detach().requires_grad_()
        outputs: Outputs = model(images_BCHW)
    maps = {}
    if "activation" in sources:
        maps["activation"] = tuple(activation_map(stage.detach()) for stage in outputs.stages)
    if "gradcam" in sources:
        maps["gradcam"] = gradcam_maps(outputs.stages, outputs.logits_BK.float(), batch.target_B)
    return maps, outputs.logits_BK.detach()


class _Objects:
    """Annotated objects of a batch, at the size of each map."""

    def __init__(self, annotations: Annotations, crop: int) -> None:
        self.annotations, self.crop = annotations, crop
        self.is_object_O = torch.zeros(len(annotations.names), dtype=torch.bool)
        self.is_object_O[sorted(annotations.object_ids())] = True

    def of(self, batch: Batch) -> _Seen | None:
        """Return the annotated images of a batch, or None if there are none."""
        masks = ((row, self.annotations.mask(int(index))) for row, index in enumerate(batch.index_B.tolist()))
        annotated = {row: mask.astype(np.int64) for row, mask in masks if mask is not None}
        if not annotated:
            return None
        rows, stacked = list(annotated), np.stack(list(annotated.values()))
        # Ids are global; a batch holds few of them. Numbered anew, they need little memory.
        ids = np.unique(np.concatenate([[0], stacked.ravel()]))
        relevant = [self.annotations.relevant_ids(int(batch.target_B[row])) for row in rows]
        is_relevant_BO = torch.tensor([[int(one) in among for one in ids] for among in relevant])
        is_object_BO = self.is_object_O[torch.from_numpy(ids)].expand(len(rows), -1)
        mask_BHW = torch.from_numpy(np.searchsorted(ids, stacked))
        return _Seen(torch.tensor(rows), mask_BHW, len(ids), is_object_BO, is_relevant_BO)


@dataclass(frozen=True)
class _Seen:
    """What is annotated in a batch."""

    rows: Tensor
    mask_BHW: Tensor
    num_ids: int
    is_object_BO: Tensor
    is_relevant_BO: Tensor
    _coverages: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def coverage(self, height: int, width: int) -> Tensor:
        """Return the share of each cell that each object covers, made once per size of map."""
        if (height, width) not in self._coverages:
            self._coverages[height, width] = coverage(self.mask_BHW, self.num_ids, height, width)
        return self._coverages[height, width]


class _Record:
    """Per-image values of one network, and the maps of the candidates."""

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images
        chosen = np.unique(np.arange(min(NUM_CANDIDATES, num_images)) * num_images // min(NUM_CANDIDATES, num_images))
        self.candidates = torch.from_numpy(chosen)
        self.values: dict[Key, NDArray[np.float64]] = {}
        self.maps: dict[str, list[Tensor]] = {}
        self.spectra: dict[tuple[str, str], list[Tensor]] = {}

    def add(self, key: Key, index_B: Tensor, value_B: Tensor) -> None:
        """Note one value per image of a batch."""
        column = self.values.setdefault(key, np.full(self.num_images, np.nan))
        column[index_B.cpu().numpy()] = value_B.double().cpu().numpy()

    def add_network(self, network: str, maps: Mapping[str, Sequence[Tensor]], seen: _Seen | None, batch: Batch) -> None:
        """Note what a network's own maps hold: objects, spectrum, and the maps of candidates."""
        for source, stages in maps.items():
            for number, raw_BHW in enumerate(stages, start=1):
                map_BHW, stage = minmax_normalise(raw_BHW), f"stage{number}"
                if source == "activation":
                    self._keep(network, stage, map_BHW, batch)
                if seen is None:
                    continue
                measures = attend_objects(
                    map_BHW[seen.rows].cpu(), seen.coverage(*map_BHW.shape[1:]), seen.is_object_BO, seen.is_relevant_BO
                )
                for metric, value_B in measures.items():
                    self.add((network, source, stage, metric), batch.index_B.cpu()[seen.rows], value_B)

    def _keep(self, network: str, stage: str, map_BHW: Tensor, batch: Batch) -> None:
        is_candidate_B = torch.isin(batch.index_B.cpu(), self.candidates)
        kept = (map_BHW.cpu()[is_candidate_B] * 255).round().to(torch.uint8)
        self.maps.setdefault(f"{network}_{stage}", []).append(kept)
        spectrum_BHW = dct2(map_BHW - map_BHW.mean(dim=(1, 2), keepdim=True)).abs()
        self.spectra.setdefault((network, stage), []).append(spectrum_BHW.double().sum(dim=0).cpu())

    def add_overlap(
        self, student: Mapping[str, Sequence[Tensor]], teacher: Mapping[str, Sequence[Tensor]], batch: Batch
    ) -> None:
        """Note how alike the maps of both networks are."""
        for source, stages in student.items():
            for number, (student_BHW, teacher_BHW) in enumerate(zip(stages, teacher[source], strict=True), start=1):
                if all(min(student_BHW.shape[side], teacher_BHW.shape[side]) == 1 for side in (1, 2)):
                    continue  # A single position is constant in both: they would always agree.
                for metric, value_B in compare_maps(student_BHW, teacher_BHW).items():
                    self.add(("student", source, f"stage{number}", metric), batch.index_B, value_B)

    def joined(self, teacher: _Record) -> _Record:
        """Return this record together with its teacher's."""
        both = _Record(self.num_images)
        both.values = {**self.values, **teacher.values}
        both.maps = {**self.maps, **teacher.maps}
        both.spectra = {**self.spectra, **teacher.spectra}
        return both


def _write(
    one: Wanted,
    record: _Record,
    ids: Sequence[str],
    scenes: Mapping[str, NDArray[Any]],
    sources: Sequence[str],
    of_objects: Sequence[Result],
) -> None:
    """Leave everything in the run's folder: summary.json, then the seal, last."""
    target = one.target
    for name in ("summary.json", SEAL):  # until they are there again, nothing counts as measured
        (target / name).unlink(missing_ok=True)
    write_atomic(target / "per_image.parquet", _table_bytes(record, ids))
    maps = {name: torch.cat(parts).numpy() for name, parts in record.maps.items()}
    write_atomic(target / "maps.npz", _npz_bytes({**scenes, **maps, "index": record.candidates.numpy()}))
    write_json(target / "spectra.json", _spectra(record))
    write_json(
        target / "summary.json",
        {
            "version": OVERLAP_VERSION,
            "sources": list(sources),
            "results": [result.to_dict() for result in _aggregate(record, "student")],
            "teacher_results": [result.to_dict() for result in (*_aggregate(record, "teacher"), *of_objects)],
        },
    )
    one.folder.seal_measurements(target)


def _aggregate(record: _Record, network: str) -> list[Result]:
    """Means over images of every stage, and of the stages, over all test images and those the teacher has right."""
    correct_N = record.values["teacher", "", "", "teacher_correct"] == 1.0
    results: list[Result] = []
    groups: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = {}
    for (owner, source, stage, metric), column_N in record.values.items():
        if owner == network and source:
            groups.setdefault((source, metric), {})[stage] = column_N
    for (source, metric), stages in groups.items():
        name = _result_name(source, metric)
        for split, chosen_N in (("test", np.ones_like(correct_N)), ("test_teacher_correct", correct_N)):
            means = {stage: _mean(column_N[chosen_N], metric) for stage, column_N in stages.items()}
            finite = {stage: value for stage, value in means.items() if value is not None}
            if finite:
                finite["mean"] = math.fsum(finite.values()) / len(finite)
            results += [Result(name, stage, split, value, "1") for stage, value in finite.items()]
    return results


def _result_name(source: str, metric: str) -> str:
    if source == "gradcam":
        return f"gradcam_{metric}"
    return f"overlap_{metric}" if metric in MAP_METRICS else f"attention_{metric}"


def _mean(values: NDArray[np.float64], metric: str) -> float | None:
    """Return the mean over the images for which a measure is defined; None if there are none.

    Two maps can always be compared: if a value is not finite the network is broken there, and the stage has no mean.
    """
    defined = values[np.isfinite(values)]
    is_broken = metric in MAP_METRICS and len(defined) < len(values)
    return math.fsum(defined) / len(defined) if len(defined) and not is_broken else None


def _spectra(record: _Record) -> dict[str, dict[str, list[float]]]:
    """Mean over images of |DCT-II|, averaged over rings of equal distance from the mean."""
    spectra: dict[str, dict[str, list[float]]] = {}
    for (network, stage), sums in record.spectra.items():
        mean_HW = torch.stack(sums).sum(dim=0) / record.num_images
        height, width = mean_HW.shape
        radius_HW = torch.hypot(torch.arange(height).double().unsqueeze(1), torch.arange(width).double())
        ring_P = radius_HW.round().long().flatten()
        totals, counts = torch.bincount(ring_P, mean_HW.flatten()), torch.bincount(ring_P)
        rings = (totals / counts.clamp_min(1))[: max(height, width)]
        spectra.setdefault(network, {})[stage] = rings.tolist()
    return spectra


def _scenes(cache: PixelCache, crop: int, annotations: Annotations | None) -> dict[str, NDArray[Any]]:
    """Return the candidate images as the networks see them, and their annotations."""
    candidates = _Record(cache.num_images("test")).candidates.tolist()
    corners_N2 = central_corners(cache.sizes("test"), crop)
    images = [_cut(cache.image("test", index), corners_N2[index], crop) for index in candidates]
    scenes: dict[str, NDArray[Any]] = {"image": np.stack(images)}
    if annotations is not None:
        blank = np.zeros((crop, crop), dtype=np.uint16)
        masks = [annotations.mask(index) for index in candidates]
        scenes["annotation"] = np.stack([blank if mask is None else mask for mask in masks])
    return scenes


def _cut(image_HWC: NDArray[Any], corner_2: NDArray[np.int64], crop: int) -> NDArray[Any]:
    top, left = corner_2.tolist()
    return image_HWC[top : top + crop, left : left + crop]


def _table_bytes(record: _Record, ids: Sequence[str]) -> bytes:
    """Return the tidy table of all defined values, one row per image, network, source, stage and metric."""
    names = [pa.field(name, pa.string()) for name in ("network", "source", "stage", "metric")]
    schema = pa.schema([("image", pa.string()), ("index", pa.int64()), *names, ("value", pa.float64())])
    chunks: list[pa.Table] = []
    for key, column_N in record.values.items():
        index = np.flatnonzero(np.isfinite(column_N))
        constants = [column_of_texts([part] * len(index)) for part in key]
        images = column_of_texts([ids[row] for row in index.tolist()])
        columns = [images, column_of_numbers(index), *constants, column_of_numbers(column_N[index])]
        chunks.append(pa.Table.from_arrays(columns, schema=schema))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(chunks), sink, compression="zstd")
    return bytes(sink.getvalue())


def _npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
