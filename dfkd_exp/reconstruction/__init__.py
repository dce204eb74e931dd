"""Metadata to images."""

from dfkd_exp.reconstruction.settings import OPTIMIZERS, SCHEMAS, Moments, Reconstruction, Sample

__all__ = ["OPTIMIZERS", "SCHEMAS", "Moments", "Reconstruction", "Sample"]
