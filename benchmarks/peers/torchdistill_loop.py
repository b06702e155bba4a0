"""torchdistill on the same work: its config, loaders, hooks, losses, box and logger, called as its users call them.

The loop around the box is the caller's in torchdistill; this one feeds its MetricLogger in each step, as its examples
do. The teacher is put in evaluation mode, which torchdistill leaves to the caller. torchdistill is not in this
project's environment: it is found in a folder of its own.

python -m benchmarks.peers.torchdistill_loop FOLDER METHOD WORKERS EPOCHS THREADS
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from pathlib import Path
from string import Template
from typing import Any

import torch

from benchmarks.peers.networks import NUM_CLASSES
from benchmarks.peers.outcome import Outcome

SITE = Path(__file__).parents[2] / ".venv" / "peers"
"""Where `make bench` installs torchdistill."""
CPU = torch.device("cpu")


def _peer(name: str) -> Any:
    return import_module(f"torchdistill.{name}")


def read_config(folder: Path, method: str, **values: object) -> dict[str, Any]:
    """Fill in torchdistill.yaml and let torchdistill read it; the method's criterion and hooks join `train`."""
    text = Template(Path(__file__).with_name("torchdistill.yaml").read_text())
    file = folder / f"torchdistill-{method}.yaml"
    file.write_text(text.substitute(folder=folder, num_classes=NUM_CLASSES, **values))
    config: dict[str, Any] = _peer("common.yaml_util").load_yaml_file(str(file))
    chosen = config["methods"][method]
    hooks = {"input": [], "output": chosen["maps"]}
    config["train"] |= {
        "criterion": chosen["criterion"],
        "teacher": {"requires_grad": False, "forward_hook": hooks, "forward_proc": "forward_batch_only"},
        "student": {"requires_grad": True, "forward_hook": hooks, "forward_proc": "forward_batch_only"},
    }
    return config


def load_model(config: dict[str, Any]) -> torch.nn.Module:
    """Build one of the networks and load its weights, all by torchdistill."""
    model: torch.nn.Module = _peer("models.official").get_image_classification_model(config)
    _peer("common.main_util").load_ckpt(config["src_ckpt"], model=model, strict=True)
    return model.to(CPU)


def train_epoch(box: Any, log_freq: int, epoch: int) -> int:
    """Train one epoch and return the number of images."""
    log = _peer("misc.log")
    box.pre_epoch_process(epoch=epoch)
    meters = log.MetricLogger(delimiter="  ")
    meters.add_meter("lr", log.SmoothedValue(window_size=1, fmt="{value}"))
    images = 0
    for batch, targets, extra in meters.log_every(box.train_data_loader, log_freq, f"epoch {epoch}"):
        loss = box.forward_process(batch.to(CPU), targets.to(CPU), extra)
        box.post_forward_process(loss=loss)
        meters.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
        images += len(targets)
    box.post_epoch_process()
    return images


def main(folder: str, method: str, workers: str, epochs: str, threads: str) -> None:
    """Train one student and print the outcome."""
    sys.path.append(str(SITE))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    torch.set_num_threads(int(threads))
    config = read_config(Path(folder), method, workers=workers, epochs=epochs)
    teacher, student = (load_model(config["models"][name]) for name in ("teacher_model", "student_model"))
    teacher.eval()
    box = _peer("core.distillation").get_distillation_box(
        teacher, student, config["datasets"], config["train"], CPU, None, False, 1
    )
    outcome = Outcome()
    with outcome.timing():
        for epoch in range(box.num_epochs):
            outcome.student_images += train_epoch(box, config["train"]["log_freq"], epoch)
    print(outcome.to_line())


if __name__ == "__main__":
    main(*sys.argv[1:])
