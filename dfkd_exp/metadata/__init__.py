"""What a teacher leaves behind. A kind is a file here and a yaml in ``conf/metadata/``."""

from dfkd_exp.metadata.auto import Auto
from dfkd_exp.metadata.batch_norm import BatchNormStatistics
from dfkd_exp.metadata.channels import Channels
from dfkd_exp.metadata.composed import Composed
from dfkd_exp.metadata.gaussian import AllLayers, AllLayersDropout, Gaussian, TopLayer
from dfkd_exp.metadata.kind import MetadataKind
from dfkd_exp.metadata.spatial import Spatial
from dfkd_exp.metadata.spectral import Recorded, SpectralAllLayers, SpectralLayerPairs

__all__ = [
    "AllLayers",
    "AllLayersDropout",
    "Auto",
    "BatchNormStatistics",
    "Channels",
    "Composed",
    "Gaussian",
    "MetadataKind",
    "Recorded",
    "Spatial",
    "SpectralAllLayers",
    "SpectralLayerPairs",
    "TopLayer",
]
