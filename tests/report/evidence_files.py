"""What a run leaves beside its metrics, made up: predictions, history and config, in the form that jobs write."""

import json
import random

import numpy as np
import pandas as pd
import yaml

NUM_IMAGES = 1000


def write_predictions(folder, top1_percent, num_classes, draw=None):
    """Write predictions of which exactly this percentage is right; labels go round the classes."""
    draw = draw or random.Random(folder.name)
    target = np.arange(NUM_IMAGES, dtype=np.int32) % num_classes
    wrong = draw.sample(range(NUM_IMAGES), NUM_IMAGES - round(top1_percent * NUM_IMAGES / 100))
    prediction = target.copy()
    prediction[wrong] = (target[wrong] + 1 + np.array([draw.randrange(num_classes - 1) for _ in wrong])) % num_classes
    frame = pd.DataFrame(
        {
            "id": [f"val/{number:05d}.jpg" for number in range(NUM_IMAGES)],
            "index": np.arange(NUM_IMAGES, dtype=np.int32),
            "target": target,
            "prediction": prediction.astype(np.int32),
            "in_top5": prediction == target,
            "target_probability": np.full(NUM_IMAGES, 0.5, dtype=np.float32),
        }
    )
    frame.to_parquet(folder / "predictions.parquet", index=False)


def write_history(folder, top1_percent, epochs):
    """Write a history that ends at this test accuracy."""
    lines = []
    for epoch in range(1, epochs + 1):
        share = epoch / epochs
        for split, name, value, unit in (
            ("train", "top1_percent", 90 * share, "percent"),
            ("train", "loss", 3 - 2 * share, "nats"),
            ("test", "top1_percent", top1_percent * (0.5 + share / 2), "percent"),
            ("held_out", "top1_percent", 1.0, "percent"),  # in no table and no figure
        ):
            row = {"step": 10 * epoch, "epoch": epoch, "split": split, "name": name, "value": value, "unit": unit}
            lines.append(json.dumps(row))
    (folder / "history.jsonl").write_text("\n".join(lines) + "\n")


def write_config(folder, run, config_file):
    """Write config.yaml as the engine does."""
    config = {
        "run": run.names(),
        "digest": folder.name,
        "spec": run.spec,
        "experiment_file": config_file,
        "precision": "bfloat16",
        "identity": dict(run.identity),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
