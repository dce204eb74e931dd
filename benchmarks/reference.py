"""Plain loops written from METHOD.md, as the original does it: fp32, 64 images of one class at a time, unfused Adam."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 64


class Hooks:
    """The outputs of all layers with weights, before their non-linearity."""

    def __init__(self, teacher: nn.Module):
        self.outputs: list[Tensor] = []
        for module in teacher.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.register_forward_hook(lambda _module, _inputs, output: self.outputs.append(output.flatten(1)))

    def __call__(self, teacher: nn.Module, images: Tensor) -> list[Tensor]:
        self.outputs = []
        teacher(images)
        return self.outputs


def reconstruct_batch(
    teacher: nn.Module,
    hooks: Hooks,
    shape: tuple[int, ...],
    means: list[Tensor],
    factors: list[Tensor],
    match: str,
    steps: int,
    temperature: float = 8.0,
) -> Tensor:
    """``BATCH`` images of one class. ``means[U]`` and ``factors`` per layer: ``[U, U]`` of the covariance, or ``[U]`` deviations."""
    images = (0.15 + 0.1 * torch.randn(BATCH, *shape, device=means[0].device)).requires_grad_(True)
    optimizer = torch.optim.Adam([images], lr=0.07, foreach=False, fused=False)
    noise = [torch.randn(BATCH, len(mean), device=mean.device) for mean in means]
    targets = [
        mean + (e @ factor.T if factor.dim() == 2 else e * factor)
        for mean, factor, e in zip(means, factors, noise, strict=True)
    ]
    deviations = [f.square().sum(1).sqrt() if f.dim() == 2 else f for f in factors]
    for _ in range(steps):
        optimizer.zero_grad()
        recorded = hooks(teacher, images)
        activations = [*recorded[:-1], recorded[-1] / temperature]
        loss = images.new_zeros(())
        if match == "sample":
            for values, target in zip(activations, targets, strict=True):
                loss = loss + (F.relu(values) - F.relu(target)).square().sum(1).mean() / values.shape[1]
        else:
            for values, mean, deviation in zip(activations, means, deviations, strict=True):
                error = (values.mean(0) - mean).square() + (values.std(0) - deviation).square()
                loss = loss + error.mean() / deviation.square().mean()
            loss = loss + (activations[-1] - targets[-1]).square().mean() / deviations[-1].square().mean()
        loss.backward()
        optimizer.step()
        if match == "moments":
            with torch.no_grad():
                images.clamp_(0, 1)
    return images.detach()


def collect_per_example(teacher: nn.Module, hooks: Hooks, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Means and second moments of every layer, an image at a time, as the original collects them."""
    sums: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for image in images:
            for index, values in enumerate(hooks(teacher, image[None])):
                if len(sums) <= index:
                    sums.append((torch.zeros(values.shape[1]), torch.zeros(values.shape[1], values.shape[1])))
                sums[index][0].add_(values[0])
                sums[index][1].add_(torch.outer(values[0], values[0]))
    return sums
