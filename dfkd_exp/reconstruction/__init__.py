"""Metadata to images."""

from dfkd_exp.reconstruction.moments import Moments
from dfkd_exp.reconstruction.sample import Sample
from dfkd_exp.reconstruction.settings import Reconstruction

__all__ = ["Moments", "Reconstruction", "Sample"]
