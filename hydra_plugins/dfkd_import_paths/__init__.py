"""Config groups whose choices are classes by import path: ``metadata=my_package.statistics.Median``, and the schema of every yaml.

A yaml in ``conf/GROUP/`` names its dataclass by a line like ``/schema@_here_: dfkd_exp.data.digits.Digits``, and nothing else lists what
there is. Choices that two groups share, such as those of ``training/optimizer`` and ``distillation/optimizer``, are files of the first
alone, and found here for the second. It stands here because Hydra takes sources of configs from the package ``hydra_plugins`` alone.
"""

from dataclasses import is_dataclass
from pathlib import Path

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

SCHEMA = "schema"


class ImportPathSource(ConfigSource):
    """``import://``: a config whose name has dots is a dataclass, its fields the config; others are files of the group that has them."""

    @staticmethod
    def scheme() -> str:
        return "import"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") == SCHEMA or _shared(config_path) is not None

    def is_config(self, config_path: str) -> bool:
        if _shared_file(config_path):
            return True
        group, name = _parts(config_path)
        return bool(group) and not group.startswith("hydra") and all(part.isidentifier() for part in name.split("."))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return [path.stem for path in (_shared(config_path) or Path()).glob("*.yaml")]

    def load_config(self, config_path: str) -> ConfigResult:
        from dfkd_exp.errors import ConfigError
        from dfkd_exp.settings import import_by_path

        if file := _shared_file(config_path):
            return ConfigResult(self.provider, f"import://{file}", OmegaConf.load(file), {"package": None})
        group, path = _parts(config_path)
        schema = import_by_path(path, group)
        if not is_dataclass(schema):
            raise ConfigError(f"{group}={path} is not a dataclass; docs/extending.md says what it must be")
        return ConfigResult(self.provider, f"import://{path}", OmegaConf.structured(schema), {"package": None})


def _shared(config_path: str) -> Path | None:
    """The folder that another group's choices come from."""
    from dfkd_exp.config.groups import SAME_INNER_GROUPS, home

    group = config_path.strip("/")
    shares = group.partition("/")[0] in SAME_INNER_GROUPS and "/" in group
    return home(group) if shares and home(group).is_dir() else None


def _shared_file(config_path: str) -> Path | None:
    group, _, name = config_path.strip("/").removesuffix(".yaml").rpartition("/")
    folder = _shared(group)
    return folder / f"{name}.yaml" if folder and (folder / f"{name}.yaml").is_file() else None


def _parts(config_path: str) -> tuple[str, str]:
    """Group and import path; an import path without a dot is none."""
    group, _, name = config_path.strip("/").removesuffix(".yaml").rpartition("/")
    return (group, name) if "." in name else ("", "")
