"""What a teacher leaves behind. A kind is a dataclass in its own file, a line in `SCHEMAS` and a yaml in ``conf/metadata/``."""

from dfkd_exp.metadata.settings import SCHEMAS, AllLayers, Gaussian, MetadataKind, TopLayer

__all__ = ["SCHEMAS", "AllLayers", "Gaussian", "MetadataKind", "TopLayer"]
