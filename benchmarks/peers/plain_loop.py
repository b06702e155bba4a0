"""A training loop as papers' repositories have it: PIL in a DataLoader, float32, meters fed by `.item()` in each step.

Written for this benchmark after the shape of RepDistiller's; nothing of it is copied.

python -m benchmarks.peers.plain_loop FOLDER METHOD WORKERS EPOCHS NETWORKS
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.peers.networks import load_networks
from benchmarks.peers.outcome import Outcome

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Meter:
    """Running mean of a number."""

    def __init__(self) -> None:
        self.sum, self.count = 0.0, 0

    def update(self, value: float, count: int) -> None:
        """Add a mean over some images."""
        self.sum += value * count
        self.count += count


def make_loader(folder: Path, *, workers: int, batch_size: int) -> DataLoader[tuple[Tensor, int]]:
    """Return a loader of shuffled random crops, as the cache's recipe has them."""
    transform = transforms.Compose(
        [
            transforms.Resize(72),
            transforms.RandomCrop(64),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    images = datasets.ImageFolder(str(folder / "train"), transform)
    return DataLoader(images, batch_size=batch_size, shuffle=True, num_workers=workers)


def features_and_logits(net: nn.Module, images_BCHW: Tensor) -> tuple[list[Tensor], Tensor]:
    """Run torchvision's ResNet and keep the maps of its four stages."""
    x = net.maxpool(net.relu(net.bn1(net.conv1(images_BCHW))))
    features = []
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = stage(x)
        features.append(x)
    return features, net.fc(net.avgpool(x).flatten(1))


def attention_loss(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Return attention transfer summed over stages."""
    maps = [[F.normalize(f.pow(2).mean(1).flatten(1)) for f in features] for features in (student, teacher)]
    return sum(((s - t).pow(2).mean() for s, t in zip(*maps, strict=True)), torch.zeros(()))


def loss_of(
    method: str, student: tuple[list[Tensor], Tensor], teacher: tuple[list[Tensor], Tensor], target_B: Tensor
) -> Tensor:
    """Return the loss with the weights of our rows."""
    ce = F.cross_entropy(student[1], target_B)
    if method == "at":
        return ce + 1000 * attention_loss(student[0], teacher[0])
    soft = F.kl_div(F.log_softmax(student[1] / 4, 1), F.softmax(teacher[1] / 4, 1), reduction="batchmean") * 16
    return 0.1 * ce + 0.8 * soft


def train_epoch(
    loader: DataLoader[tuple[Tensor, int]],
    nets: tuple[nn.Module, nn.Module],
    optimiser: torch.optim.Optimizer,
    method: str,
) -> int:
    """Train one epoch and return the number of images."""
    student_net, teacher_net = nets
    meters = {name: Meter() for name in ("loss", "top1", "top5")}
    for images_BCHW, target_B in loader:
        student = features_and_logits(student_net, images_BCHW)
        with torch.no_grad():
            teacher = features_and_logits(teacher_net, images_BCHW)
        loss = loss_of(method, student, teacher, target_B)
        right_BK = student[1].topk(5, 1).indices == target_B[:, None]
        count = len(target_B)
        meters["top1"].update(right_BK[:, :1].any(1).float().mean().item(), count)
        meters["top5"].update(right_BK.any(1).float().mean().item(), count)
        meters["loss"].update(loss.item(), count)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return meters["loss"].count


def main(folder: str, method: str, workers: str, epochs: str, threads: str) -> None:
    """Train one student and print the outcome."""
    torch.set_num_threads(int(threads))
    student, teacher = load_networks(Path(folder))
    student.train()
    teacher.eval()
    loader = make_loader(Path(folder), workers=int(workers), batch_size=64)
    optimiser = torch.optim.SGD(student.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    outcome = Outcome()
    with outcome.timing():
        for _ in range(int(epochs)):
            outcome.student_images += train_epoch(loader, (student, teacher), optimiser, method)
    print(outcome.to_line())


if __name__ == "__main__":
    main(*sys.argv[1:])
