"""A release whose metadata is left aside: what methods see of it that know nothing but the teacher."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from dfkd_exp.metadata.nothing import Nothing
from dfkd_exp.release.folder import Release

if TYPE_CHECKING:
    from dfkd_exp.metadata.metadata import Metadata


@dataclass(frozen=True)
class TeacherAlone(Release):
    """The release's teacher, and nothing of what was published beside it."""

    @classmethod
    def of(cls, release: Release) -> TeacherAlone:
        """The same release, its metadata left aside."""
        return cls(**{field.name: getattr(release, field.name) for field in fields(Release)})

    @property
    def metadata_kind(self) -> str:
        return Nothing.__name__

    @property
    def counts(self) -> None:
        return None

    @property
    def drawable(self) -> bool:
        return True

    @property
    def metadata_bytes(self) -> int:
        return 0

    def metadata(self) -> Metadata:
        return Nothing().collect(self.teacher(), [], self.inputs)

    @property
    def identity(self) -> dict[str, Any]:
        return {**super().identity, "metadata": None}
