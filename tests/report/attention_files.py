"""Evaluation files of a made-up tree, written as the overlap job writes them."""

import json

import numpy as np
import pandas as pd

STAGES = ("stage1", "stage2", "stage3", "stage4")


def folder_of(tree, method, seed):
    return tree.run_folder(method, seed).path / "eval" / "overlap-1"


def write_per_image(folder, values, names=None):
    """Write SSIM; values: (index, stage) -> SSIM. A row of another network and source must not be read."""
    rows = [
        (f"val/{index:05d}.jpg", index, "student", "activation", stage, "ssim", value)
        for (index, stage), value in values.items()
    ]
    rows += [(row[0], row[1], "student", "gradcam", *row[4:6], -9.0) for row in rows]
    rows += [(row[0], row[1], "teacher", "activation", row[4], row[5], -9.0) for row in rows]
    columns = ["image", "index", "network", "source", "stage", "metric", "value"]
    folder.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows, columns=columns).astype({"index": "int64"})
    frame.to_parquet(folder / "per_image.parquet", index=False)


def write_maps(folder, indices, *, stages=STAGES, sides=(8, 4, 2, 1), crop=16, annotated=True, look=0):
    """Write maps whose values can be told apart: student pixels are 10 * place + look, the teacher's 200 + place."""
    n = len(indices)
    place = np.arange(n).reshape(n, 1, 1)
    arrays = {"index": np.array(indices, dtype=np.int64)}
    for stage, side in zip(stages, sides, strict=True):
        arrays[f"student_{stage}"] = np.broadcast_to(10 * place + look, (n, side, side)).astype(np.uint8)
        arrays[f"teacher_{stage}"] = np.broadcast_to(200 + place, (n, side, side)).astype(np.uint8)
    arrays["image"] = np.broadcast_to(place[..., np.newaxis], (n, crop, crop, 3)).astype(np.uint8)
    if annotated:
        arrays["annotation"] = np.zeros((n, crop, crop), np.uint16)
        arrays["annotation"][0, 2:6, 2:6] = 7  # the others are not annotated
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "maps.npz", **arrays)


def write_spectra(folder, student, teacher):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spectra.json").write_text(json.dumps({"student": student, "teacher": teacher}))


def write_all(tree, *, lacking=()):
    """Write the files of every student but those in `lacking`, pairs of method and seed."""
    draw = np.random.default_rng(0)
    indices = [0, 10, 20, 30]
    for number, method in enumerate(tree.methods):
        for seed in tree.seeds:
            if (method, seed) in lacking:
                continue
            folder = folder_of(tree, method, seed)
            write_per_image(folder, {(i, stage): float(draw.uniform(0, 1)) for i in indices for stage in STAGES})
            write_maps(folder, indices, look=number)
            spectrum = {
                stage: [0.0, *(1 / np.arange(1, side))] for stage, side in zip(STAGES, (8, 4, 4, 2), strict=True)
            }
            write_spectra(folder, spectrum, spectrum)
    return tree
