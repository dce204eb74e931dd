"""How good students become in the loops that DAFL's and DFAD's authors have published, with any LeNet-5 for MNIST: what a small budget
leaves of what they report, whoever's code it is.

``python -m benchmarks.students DAFL --published FOLDER --teacher FILE``: in the folder are clones of what `FOLDERS` names; the file holds
the weights of a LeNet-5 for 32x32 pixels in [0, 1]. Their losses, optimisers and generator are theirs; the generator's width, the images of
a batch and the steps are ours to say. Images are normalised as theirs are, and the teacher is given the pixels that they stand for.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.measure import DEVICE
from benchmarks.published import importable
from dfkd_exp.console import Progress
from dfkd_exp.data.idx import Mnist
from dfkd_exp.models.ours import builder
from dfkd_exp.models.recording import frozen

FOLDERS = {
    "DAFL": "huawei-noah/Efficient-Computing",
    "DFAD": "VainF/Data-Free-Adversarial-Distillation",
}
MEAN, DEVIATION = 0.1307, 0.3081
"""Of MNIST's pixels, by which they normalise."""
LOOKS = 20
"""How often the student's true accuracy is looked at: what a choice of the best by test images would report."""

Step = Callable[[], None]


class OfNormalised(nn.Module):
    """The teacher as their loops call it: of normalised images, and on demand with the features behind its last convolution's ReLU."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, out_feature: bool = False) -> Any:
        seen: list[Tensor] = []
        handle = self.network.classifier[3].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))  # type: ignore[index, union-attr]
        logits = self.network(images * DEVIATION + MEAN)
        handle.remove()
        return (logits, seen[0]) if out_feature else logits


def dafl(folder: Path, teacher: nn.Module, batch: int, width: int) -> tuple[nn.Module, Step]:
    """A student, and a step of ``DAFL-train.py``: its text up to the first epoch, and then that of one pass of its inner loop."""
    place = folder / "Efficient-Computing" / "Data-Efficient-Model-Compression" / "DAFL"
    text = (place / "DAFL-train.py").read_text("utf-8")
    head, loop = text.split("batches_done = 0")
    body = textwrap.dedent(loop[loop.index("        net.train()") : loop.index("        if i == 1:")])
    before, generator, after = re.split(r"(class Generator.*?return img\n)", head, maxsplit=1, flags=re.DOTALL)
    for theirs, ours in ((128, 2 * width), (64, width)):
        generator = re.sub(rf"\b{theirs}\b", str(ours), generator)
    after = re.sub(r"DataLoader\(data_test, .*?\)", "[]", after)
    names: dict[str, Any] = {"__name__": "dafl"}
    before_arguments, load = sys.argv, torch.load
    sys.argv = ["DAFL-train.py", "--batch_size", str(batch)]
    torch.load = lambda *_: teacher  # type: ignore[assignment]
    try:
        with importable(place):
            exec(compile(before + generator + after, "DAFL-train.py", "exec"), names)
    finally:
        sys.argv, torch.load = before_arguments, load
    step = compile(body, "DAFL-train.py", "exec")

    def make() -> None:
        with importable(place):
            exec(step, names)

    return names["net"], make


def dfad(folder: Path, teacher: nn.Module, batch: int, width: int) -> tuple[nn.Module, Step]:
    """A student, and a step of ``train`` in ``DFAD_mnist.py``: five updates of the student, and one of the generator."""
    place = folder / "Data-Free-Adversarial-Distillation"
    with importable(place):
        module = importlib.import_module("DFAD_mnist")
        student = module.network.lenet.LeNet5Half().to(DEVICE)
        generator = module.network.gan.GeneratorA(nz=100, ngf=width, nc=1, img_size=32).to(DEVICE)
    optimizers = (
        torch.optim.SGD(student.parameters(), lr=0.01, weight_decay=1e-4, momentum=0.9),
        torch.optim.Adam(generator.parameters(), lr=1e-3),
    )  # as its main() makes them of its arguments' defaults
    arguments = SimpleNamespace(epoch_itrs=1, batch_size=batch, nz=100, verbose=False)
    return student, lambda: module.train(arguments, teacher, student, generator, DEVICE, optimizers, 1)


LOOPS = {"DAFL": dafl, "DFAD": dfad}


@torch.no_grad()
def accuracy(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Of a student of normalised images, on those of pixels in [0, 1]."""
    student.eval()
    found = [student((part.to(DEVICE) - MEAN) / DEVIATION).argmax(1).cpu() for part in images.split(500)]
    student.train()
    return (torch.cat(found) == labels).float().mean().item()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.students")
    parser.add_argument("method", choices=LOOPS)
    parser.add_argument("--published", type=Path, required=True, help="folder with a clone of what was published")
    parser.add_argument("--teacher", type=Path, required=True, help="safetensors of a LeNet-5 for 32x32 pixels")
    for name, default in (("batch", 250), ("width", 16), ("steps", 1000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args(arguments)
    place = FOLDERS[asked.method]
    if not (asked.published / place.partition("/")[2]).is_dir():
        parser.error(f"--published {asked.published}: clone https://github.com/{place} into it")
    torch.manual_seed(asked.seed)
    network = builder("lenet5")((1, 32, 32), 10)
    network.load_state_dict(load_file(asked.teacher))
    teacher = OfNormalised(frozen(network).to(DEVICE))
    student, step = LOOPS[asked.method](asked.published, teacher, asked.batch, asked.width)
    test = Mnist(pad=2).load().test
    images, labels = test.images.float() / 255, test.labels
    began, seen = time.perf_counter(), []
    with Progress(f"{asked.method} as published", asked.steps) as progress:
        for number in range(1, asked.steps + 1):
            step()
            progress.advance()
            if number % max(1, asked.steps // LOOKS) == 0:
                seen.append(accuracy(student, images, labels))
    last = accuracy(student, images, labels)
    print(
        f"{asked.method}, {asked.steps:,} steps of {asked.batch} images, width {asked.width}, seed {asked.seed}: {100 * last:.2f} % "
        f"after the last, {100 * max([*seen, last]):.2f} % at the best of {len(seen)} looks, {time.perf_counter() - began:,.0f} s"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
