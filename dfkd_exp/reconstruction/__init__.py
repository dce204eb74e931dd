"""Metadata to images."""

from dfkd_exp.reconstruction.settings import Moments, Reconstruction, Sample

__all__ = ["Moments", "Reconstruction", "Sample"]
