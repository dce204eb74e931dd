"""Data-free knowledge distillation from activation metadata: done, compared, reproduced.

The owner's side: a teacher, and one pass over its training images.

>>> import torch
>>> from dfkd_exp import AllLayers, LeNet5, LeNet5Half, reconstruct, distill
>>> batches = [(torch.rand(40, 1, 32, 32), torch.arange(40) % 10)]
>>> teacher = LeNet5()                                  # any nn.Module
>>> metadata = AllLayers(covariance="top_only").collect(teacher, batches)
>>> metadata.save("lenet5.metadata.safetensors")

The other side, without the images:

>>> images = reconstruct(teacher, metadata, per_class=4, match="moments", steps=2)
>>> images.inputs.shape
torch.Size([40, 1, 32, 32])
>>> student = distill(LeNet5Half(), teacher, images, epochs=1)
>>> student(images.inputs).shape
torch.Size([40, 10])
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "AllLayers": "metadata",
    "AllLayersDropout": "metadata",
    "BatchNormStatistics": "metadata",
    "Channels": "metadata",
    "Composed": "metadata",
    "Gaussian": "metadata",
    "Spatial": "metadata",
    "SpectralAllLayers": "metadata",
    "SpectralLayerPairs": "metadata",
    "TopLayer": "metadata",
    "Metadata": "metadata.metadata",
    "Moments": "reconstruction",
    "Sample": "reconstruction",
    "Images": "reconstruction.loop",
    "reconstruct": "reconstruction.loop",
    "distill": "distillation.distill",
    "accuracy": "evaluation.metrics",
    "agreement": "evaluation.metrics",
    "predict_logits": "evaluation.metrics",
    "take_output": "models.plain",
    "InputSpec": "inputs",
    "Release": "release.folder",
    "read_release": "release.folder",
    "write_release": "release.folder",
    "DfkdError": "errors",
    "HintonNet": "models.networks",
    "HintonNet800": "models.networks",
    "LeNet5": "models.networks",
    "LeNet5Half": "models.networks",
    "LeNet5HalfDafl": "models.networks",
    "Cnn": "models.networks",
    "Mlp": "models.networks",
}
"""Where each public name lives. They are imported when first used, so that importing the package costs nothing."""

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dfkd_exp' has no attribute {name!r}")
    value = getattr(import_module(f"dfkd_exp.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
