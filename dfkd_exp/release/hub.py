"""A release on the Hugging Face Hub, by its name: fetched as files and then read like any other folder (extra: ``hub``)."""

from __future__ import annotations

import re
from pathlib import Path

from dfkd_exp.errors import ConfigError, DfkdError
from dfkd_exp.harmless import in_brief
from dfkd_exp.manifest import MANIFEST
from dfkd_exp.release.folder import CARD, CONFIG, METADATA, MODEL

SCHEME = "hf://"
NAME = re.compile(rf"{SCHEME}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
NOT_THERE = (
    "RepositoryNotFoundError",
    "RevisionNotFoundError",
    "GatedRepoError",
    "DisabledRepoError",
    "HFValidationError",
)
"""What the library raises where the Hub was reached and does not have it, or does not show it."""


def require_folder(release: str | None) -> None:
    """Raise ConfigError for a name on the Hub where a release is to be written."""
    if release and release.startswith(SCHEME):
        name = release.removeprefix(SCHEME)
        raise ConfigError(
            f"release={release}: a release is written to a folder, release=FOLDER; then hf upload {name} FOLDER publishes it"
        )


def local_folder(release: str) -> Path:
    """The folder that ``release`` names; of ``hf://org/name@revision`` the Hub's files, fetched unless they are here. Raises DfkdError,
    with the way out, if they cannot be had. No more than the five files of a release is fetched, and nothing of them is run."""
    if not release.startswith(SCHEME):
        return Path(release)
    if not (named := NAME.fullmatch(release)):
        raise DfkdError(f"a name on the Hub is {SCHEME}org/name or {SCHEME}org/name@revision; write it so")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise DfkdError("releases on the Hub need its library: pip install 'dfkd_exp[hub]'") from error
    name, revision = named.groups()
    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=[CONFIG, MODEL, METADATA, MANIFEST, CARD])
        )
    except Exception as error:  # the library raises many kinds, from many layers
        if type(error).__name__ in NOT_THERE:
            way_out = "check name and revision, and if it is not public, log in: hf auth login"
        else:
            way_out = f"get it where there is a network, hf download {name} --local-dir FOLDER, and give release=FOLDER"
        raise DfkdError(f"the Hub did not give it ({in_brief(error)}); {way_out}") from error
