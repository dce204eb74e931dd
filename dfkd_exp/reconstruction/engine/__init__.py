"""How fast images are made: what is chosen, how it is measured, and the rewrites that make it so."""

from dfkd_exp.reconstruction.engine.settings import Engine

__all__ = ["Engine"]
