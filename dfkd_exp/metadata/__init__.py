"""What a teacher leaves behind. A kind is a dataclass in its own file, a line in `SCHEMAS` and a yaml in ``conf/metadata/``."""

from dfkd_exp.metadata.settings import (
    SCHEMAS,
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
    "SCHEMAS",
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
