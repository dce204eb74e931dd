"""Metadata to images."""

from dfkd_exp.reconstruction.optimizers import OPTIMIZERS
from dfkd_exp.reconstruction.settings import SCHEMAS, Moments, Reconstruction, Sample

__all__ = ["OPTIMIZERS", "SCHEMAS", "Moments", "Reconstruction", "Sample"]
