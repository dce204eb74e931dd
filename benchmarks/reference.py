"""Plain loops written from METHOD.md, as the original does it: fp32, 64 images of one class at a time, unfused Adam."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

BATCH = 64
TEMPERATURE = 8.0


class Hooks:
    """The outputs of all layers with weights, batch normalisation included, before their non-linearity."""

    def __init__(self, teacher: nn.Module):
        self.outputs: list[Tensor] = []
        in_place = any(getattr(module, "inplace", False) for module in teacher.modules())

        def record(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            self.outputs.append((output.clone() if in_place else output).flatten(1))

        for module in teacher.modules():
            if isinstance(getattr(module, "weight", None), nn.Parameter):
                module.register_forward_hook(record)

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
    on_step: Callable[[], None] = lambda: None,
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
        activations = [*recorded[:-1], recorded[-1] / TEMPERATURE]
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
        on_step()
    return images.detach()


def collect_per_example(teacher: nn.Module, hooks: Hooks, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Sums and second moments of every layer, an image at a time."""
    sums: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for image in images:
            recorded = [values[0] for values in hooks(teacher, image[None])]
            if not sums:
                sums = [(torch.zeros_like(values), values.new_zeros(len(values), len(values))) for values in recorded]
            for (total, products), values in zip(sums, recorded, strict=True):
                total.add_(values)
                products.add_(torch.outer(values, values))
    return sums


def collect_per_example_numpy(teacher: nn.Module, hooks: Hooks, images: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same as a script of TensorFlow 1's days does it: an image's outputs are fetched as arrays, NumPy adds them up."""
    sums: list[tuple[np.ndarray, np.ndarray]] = []
    for image in images:
        with torch.no_grad():
            fetched = [values[0].cpu().numpy() for values in hooks(teacher, image[None])]
        if not sums:
            sums = [(np.zeros(len(values)), np.zeros((len(values), len(values)))) for values in fetched]
        for (total, products), values in zip(sums, fetched, strict=True):
            total += values
            products += np.outer(values, values)
    return sums


def distill(
    student: nn.Module, teacher: nn.Module, images: Tensor, epochs: int, augment: bool, lr: float = 3e-3
) -> nn.Module:
    """The student, trained in place on the teacher's soft targets for ``images[N, C, H, W]``; the teacher answers for each batch."""
    device = next(student.parameters()).device
    optimizer = torch.optim.Adam(student.parameters(), lr=lr, foreach=False, fused=False)
    batches = DataLoader(TensorDataset(images), batch_size=BATCH, shuffle=True)
    for _ in range(epochs):
        for (shown,) in batches:
            shown = shown.to(device)
            if augment:
                shown = random_affine(shown)
            with torch.no_grad():
                wanted = teacher(shown)
            optimizer.zero_grad()
            soft_targets_loss(student(shown), wanted).backward()
            optimizer.step()
    return student


def soft_targets_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy of the two softmaxes at the temperature, times its square."""
    wanted = F.softmax(teacher_logits / TEMPERATURE, dim=1)
    return TEMPERATURE**2 * F.cross_entropy(student_logits / TEMPERATURE, wanted)


def random_affine(images: Tensor, degrees: float = 10.0, shift: float = 0.08, scale: float = 0.1) -> Tensor:
    """Each of the square ``images[N, C, S, S]`` turned, shifted and scaled at random; black is 0."""
    turn, size, across, down = (torch.rand(len(images), 4).to(images.device) * 2 - 1).unbind(1)
    angle, size = turn * math.radians(degrees), 1 + scale * size
    cosine, sine = size * angle.cos(), size * angle.sin()
    first = torch.stack([cosine, -sine, 2 * shift * across], dim=1)
    second = torch.stack([sine, cosine, 2 * shift * down], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Logits ``[N, K]`` for uint8 pixels ``images[N, C, H, W]``."""
    device = next(network.parameters()).device
    with torch.no_grad():
        return torch.cat([network(part.to(device).float() / 255).cpu() for part in images.split(BATCH)])


def deep_inversion(
    teacher: nn.Module, shape: tuple[int, ...], num_classes: int, batch: int, steps: int, lr: float = 0.1
) -> Tensor:
    """``batch`` images of all classes, by the loop of DeepInversion (Yin et al. 2020), with the weights of its settings for CIFAR-10."""
    device = next(teacher.parameters()).device
    labels = torch.arange(batch, device=device) % num_classes
    images = torch.randn(batch, *shape, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([images], lr=lr, foreach=False, fused=False)
    for _ in range(steps):
        optimizer.zero_grad()
        deep_inversion_loss(teacher, images, labels).backward()
        optimizer.step()
    return images.detach()


def deep_inversion_loss(
    teacher: nn.Module, images: Tensor, labels: Tensor, batch_norm: float = 10.0, variation: float = 2.5e-5
) -> Tensor:
    """Cross-entropy, distance from the moments that the BatchNorm layers have kept (eq. 4), and total variation in four directions."""
    distances: list[Tensor] = []

    def compare(module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), correction=0)
        distances.append((mean - module.running_mean).norm() + (variance - module.running_var).norm())

    norms = [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [module.register_forward_hook(compare) for module in norms]
    loss = F.cross_entropy(teacher(images), labels)
    for handle in handles:
        handle.remove()
    down, across = images.diff(dim=2), images.diff(dim=3)
    rising, falling = images[..., 1:, :-1] - images[..., :-1, 1:], images[..., 1:, 1:] - images[..., :-1, :-1]
    total_variation = down.norm() + across.norm() + rising.norm() + falling.norm()
    return loss + batch_norm * sum(distances) + variation * total_variation
