"""What a teacher leaves behind. A kind is a file here and a yaml in ``conf/metadata/``."""

from dfkd_exp.metadata.settings import (
    AllLayers,
    AllLayersDropout,
    Composed,
    Gaussian,
    MetadataKind,
    Recorded,
    Spatial,
    SpectralAllLayers,
    SpectralLayerPairs,
    TopLayer,
)

__all__ = [
    "AllLayers",
    "AllLayersDropout",
    "Composed",
    "Gaussian",
    "MetadataKind",
    "Recorded",
    "Spatial",
    "SpectralAllLayers",
    "SpectralLayerPairs",
    "TopLayer",
]
