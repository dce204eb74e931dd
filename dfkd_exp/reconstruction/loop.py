"""The inner loop: groups of images, optimised side by side until the teacher's activations fit the metadata."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfkd_exp.console import Progress
from dfkd_exp.errors import DfkdError
from dfkd_exp.metadata.gaussian import GaussianMetadata
from dfkd_exp.models.recording import Recorder, frozen, recording
from dfkd_exp.reconstruction.losses import gaussian_blur, total_variation
from dfkd_exp.reconstruction.settings import SCHEMAS, Adam, Optimizer, Reconstruction
from dfkd_exp.seeding import derive_seed
from dfkd_exp.settings import did_you_mean


@dataclass(frozen=True)
class Images:
    """Reconstructions: ``inputs[N, C, H, W]`` as the teacher takes them, the class ``labels[N]`` they were made for, and
    the ``losses[S, G]`` of their groups at S moments on the way."""

    inputs: Tensor
    labels: Tensor
    losses: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def group_label(group: int, num_classes: int) -> int:
    """The class of a group: they take turns, so that any run of groups is balanced."""
    return group % num_classes


def batches_of_groups(settings: Reconstruction, optimizer: Optimizer, num_classes: int) -> list[list[int]]:
    """All group indices, in batches of at most ``images_per_batch`` images."""
    size = 1 if optimizer.couples_images else max(1, settings.images_per_batch // settings.group_size)
    indices = range(settings.groups_per_class * num_classes)
    return [list(indices[start : start + size]) for start in range(0, len(indices), size)]


def reconstruct_groups(
    teacher: nn.Module,
    metadata: GaussianMetadata,
    groups: Sequence[int],
    settings: Reconstruction,
    optimizer: Optimizer,
    seed: int,
    on_step: Callable[[int], None] = lambda images: None,
) -> Images:
    """The images of ``groups``, made side by side. ``on_step(number of images)`` is called after each step.

    Every group's noise and targets come from a generator of its own, and its loss from its own images, so its images
    do not depend on the groups beside it. The teacher must be frozen and lie, like the metadata, on the device to use.
    """
    device = metadata.statistics[0].mean.device
    starts, targets = [], []
    for group in groups:
        generator = torch.Generator().manual_seed(derive_seed(seed, "group", group))
        noise = torch.randn(settings.group_size, *metadata.inputs.shape, generator=generator)
        starts.append(settings.init_mean + settings.init_std * noise)
        label = group_label(group, metadata.num_classes)
        targets.append(settings.draw_targets(metadata, label, generator))
    stacked = [torch.stack(parts) for parts in zip(*targets, strict=True)]
    pixels = torch.cat(starts).to(device)
    if any(isinstance(module, nn.Conv2d) for module in teacher.modules()):
        pixels = pixels.contiguous(memory_format=torch.channels_last)

    with recording(teacher, metadata.layer_names) as recorder:
        losses = _optimise(pixels, recorder, stacked, metadata, settings, optimizer, on_step)

    labels = torch.tensor([group_label(g, metadata.num_classes) for g in groups]).repeat_interleave(settings.group_size)
    return Images(metadata.inputs.from_pixels(pixels.detach()).cpu().contiguous(), labels, losses)


def _optimise(
    pixels: Tensor,
    recorder: Recorder,
    targets: list[Tensor],
    metadata: GaussianMetadata,
    settings: Reconstruction,
    optimizer: Optimizer,
    on_step: Callable[[int], None],
) -> Tensor:
    """Change ``pixels[G * N, C, H, W]`` in place; the groups' losses ``[S, G]`` every tenth of the way."""
    num_groups = len(pixels) // settings.group_size
    pixels.requires_grad_(True)
    stepper = optimizer.build(pixels)
    base_lr = stepper.param_groups[0]["lr"]
    history: list[Tensor] = []

    def losses_now() -> Tensor:
        recorded = metadata.activations(recorder(metadata.inputs.from_pixels(pixels)))
        grouped = [values.unflatten(0, (num_groups, settings.group_size)) for values in recorded]
        losses = settings.loss(grouped, targets, metadata)
        if settings.total_variation:
            losses = losses + settings.total_variation * total_variation(pixels).view(num_groups, -1).mean(1)
        if settings.l2:
            losses = losses + settings.l2 * pixels.square().view(num_groups, -1).mean(1)
        return losses

    def closure() -> Tensor:
        stepper.zero_grad(set_to_none=True)
        losses = losses_now()
        current.append(losses.detach())
        loss = losses.sum()
        loss.backward()
        return loss

    keep_every = max(1, settings.steps // 10)
    with torch.enable_grad():
        for step in range(settings.steps):
            if settings.schedule == "cosine":
                stepper.param_groups[0]["lr"] = base_lr * (1 + math.cos(math.pi * step / settings.steps)) / 2
            current: list[Tensor] = []
            stepper.step(closure)  # type: ignore[arg-type]  # torch's own annotation says float
            if step % keep_every == 0:
                history.append(current[0])
            with torch.no_grad():
                if settings.blur_sigma and (step + 1) % settings.blur_every == 0:
                    pixels.copy_(gaussian_blur(pixels, settings.blur_sigma))
                if settings.clamp:
                    pixels.clamp_(0, 1)
            on_step(len(pixels))
    with torch.no_grad():
        history.append(losses_now())
    return torch.stack(history).cpu()


def reconstruct(
    teacher: nn.Module,
    metadata: GaussianMetadata,
    per_class: int = 500,
    match: str = "moments",
    seed: int = 0,
    optimizer: Optimizer | None = None,
    **settings: object,
) -> Images:
    """Images from a teacher and its metadata alone.

    ``match``: ``moments`` or ``sample`` (METHOD has both); ``settings``: the fields of `Moments` or `Sample`, such as
    ``steps=200``. The group size, unless given, is the largest divisor of ``per_class`` up to 100, or all if that is 1.
    Raises DfkdError if the metadata belongs to another teacher.
    """
    if match not in SCHEMAS:
        raise DfkdError(f"match must be one of {', '.join(SCHEMAS)}, got {match!r}{did_you_mean(match, SCHEMAS)}")
    metadata.check_teacher(teacher)
    divisors = [n for n in range(2, min(per_class, 100) + 1) if per_class % n == 0]
    settings.setdefault("group_size", max(divisors, default=per_class))
    chosen = SCHEMAS[match](images_per_class=per_class, **settings)  # type: ignore[arg-type]
    optimizer = optimizer or Adam()
    frozen(teacher)

    with Progress("image-steps", per_class * metadata.num_classes * chosen.steps) as progress:
        parts = [
            reconstruct_groups(teacher, metadata, groups, chosen, optimizer, seed, progress.advance)
            for groups in batches_of_groups(chosen, optimizer, metadata.num_classes)
        ]
    return concatenate(parts)


def concatenate(parts: Sequence[Images]) -> Images:
    """Several batches of groups as one."""
    return Images(
        torch.cat([part.inputs for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat([part.losses for part in parts], dim=1),
    )
