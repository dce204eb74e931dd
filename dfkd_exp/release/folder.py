"""The release folder: what a model owner publishes, and all that the other side has. Format: docs/metadata-format.md.

``config.json`` (architecture, inputs, classes), ``model.safetensors`` (the teacher), ``metadata.safetensors``,
``manifest.json`` (sizes and sha256 sums) and ``README.md``, the model card: the layout of the Hugging Face Hub.
Nothing in it is executed, and nobody's class is looked up by a name that stands in it.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp.errors import DfkdError
from dfkd_exp.files import canonical_json, read_json, safetensors_header, strict_json, sync_folder, write_atomically
from dfkd_exp.harmless import brief
from dfkd_exp.inputs import InputSpec
from dfkd_exp.manifest import MANIFEST, seal, verify
from dfkd_exp.metadata.choices import WITHOUT_DRAWS
from dfkd_exp.metadata.header import Header, read_header
from dfkd_exp.models.kind import Network
from dfkd_exp.models.ours import Ours
from dfkd_exp.models.published import LIBRARIES
from dfkd_exp.release.card import model_card
from dfkd_exp.schema import require_schema

if TYPE_CHECKING:
    from torch import nn

    from dfkd_exp.metadata.metadata import Metadata

FORMAT, VERSION, SCHEMA = "dfkd-release", 3, "release-config-v3"
CONFIG, MODEL, METADATA, CARD = "config.json", "model.safetensors", "metadata.safetensors", "README.md"


@dataclass(frozen=True)
class Release:
    """A release folder, verified. ``digest``: of what it says, whoever wrote it and whatever its card says. ``teacher_settings``: what the
    receiver says of the teacher, whose code does not travel."""

    folder: Path
    config: dict[str, Any]
    digest: str
    teacher_settings: Network | None = None

    @property
    def inputs(self) -> InputSpec:
        return InputSpec.from_json(self.config["inputs"])

    @property
    def classes(self) -> list[str]:
        return self.config["classes"]

    @property
    def teacher_accuracy(self) -> float | None:
        """On the owner's test set, as the owner measured it."""
        return self.config["test_accuracy"]

    @cached_property
    def _header(self) -> Header:
        return read_header(self.folder / METADATA)

    @property
    def metadata_kind(self) -> str:
        """What kind of metadata there is, read without loading it."""
        return self._header.said["kind"]["name"]

    @property
    def counts(self) -> list[int] | None:
        """Training images of each class; None where none were needed."""
        return self._header.said["counts"]

    @property
    def has_graph(self) -> bool:
        """Whether there are statistics in the basis of a graph of the layers."""
        return self._header.said["graph"] is not None

    @property
    def drawable(self) -> bool:
        """Whether values of layers can be drawn from all of its metadata."""
        return all(statistic["basis"] not in WITHOUT_DRAWS for statistic in self._header.said["statistics"])

    @property
    def metadata_bytes(self) -> int:
        """Bytes of its statistics, read without loading them."""
        return self._header.num_bytes

    def metadata(self) -> Metadata:
        """The metadata; DfkdError if its tensors are not those that its header asks for, not finite, or negative where they cannot be."""
        from dfkd_exp.metadata.metadata import Metadata

        return Metadata.load(self.folder / METADATA)

    @property
    def network(self) -> Network:
        """What the teacher is. One of the project's networks is known; any other is what the receiver says."""
        architecture, said = self.config["architecture"], self.teacher_settings
        network = Ours().completed(architecture) or (said and said.completed(architecture))
        if network is None:
            how = "teacher=custom teacher.target=package.module.Name, or its owner's kind of network"
            if architecture["kind"] in LIBRARIES:
                how = f"teacher={architecture['kind']}"
            raise DfkdError(
                f"the teacher in {self.folder} is none of the project's networks but {architecture['name']} ({architecture['kind']}), "
                f"whose code does not travel; name it: {how}"
            )
        return network

    @property
    def identity(self) -> dict[str, Any]:
        """What the key of everything that is made with the teacher begins with: its weights and statistics, and what it computes."""
        return {"release": self.digest, "teacher": self.network.function()}

    def teacher(self) -> nn.Module:
        """The teacher with its weights, frozen."""
        from dfkd_exp.evaluation.probe import check_answers
        from dfkd_exp.models.checkpoint import require_sound
        from dfkd_exp.models.read_weights import read_safetensors
        from dfkd_exp.models.recording import frozen, num_parameters, weights_digest

        path = self.folder / MODEL
        weights, output = read_safetensors(path, str(path)), self.config["architecture"].get("output")
        teacher = self.network.rebuilt(weights, str(path), self.inputs, len(self.classes), output)
        if weights_digest(teacher) != self.config["teacher_sha256"]:
            raise DfkdError(f"{path} does not hold the weights that {CONFIG} names; fetch the release again")
        require_sound(teacher, str(path))
        if num_parameters(teacher) != self.config["num_parameters"]:
            raise DfkdError(
                f"{self.folder / CONFIG} says {self.config['num_parameters']:,} parameters, and the teacher has "
                f"{num_parameters(teacher):,}; fetch the release again"
            )
        check_answers(teacher, self.inputs, self.config["probe"], f"{self.network.title}, of {path},")
        return frozen(teacher)


def write_release(
    folder: str | Path,
    teacher: nn.Module,
    metadata: Metadata,
    architecture: dict[str, Any],
    classes: list[str],
    test_accuracy: float | None,
    remark: str = "",
) -> Release:
    """Write the five files into the empty folder ``folder`` and read them back. Raises DfkdError if it holds anything, or what is to be
    written cannot be: ``architecture`` has ``kind``, ``name`` and ``kwargs`` (docs/metadata-format.md). ``remark``: on the images, for the
    card."""
    from safetensors.torch import save

    from dfkd_exp.evaluation.probe import answers
    from dfkd_exp.models.plain import as_classifier, output_of
    from dfkd_exp.models.recording import num_parameters, weights_digest
    from dfkd_exp.models.repeatable import require_repeatable

    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DfkdError(f"release={folder} is not empty; name a new folder")
    with as_classifier(teacher, metadata.inputs.example(), metadata.num_classes) as teacher:
        metadata.check_teacher(teacher)
        require_repeatable(teacher, metadata.inputs.example(), "the teacher")
        found = output_of(teacher)
        output = {"output": found.to_json()} if found is not None and found.notes else {}
        config = {
            "format": FORMAT,
            "format_version": VERSION,
            "library_name": "dfkd_exp",
            "architecture": {**architecture, **output},
            "num_parameters": num_parameters(teacher),
            "inputs": metadata.inputs.to_json(),
            "classes": classes,
            "test_accuracy": test_accuracy,
            "teacher_sha256": weights_digest(teacher),
            "probe": answers(teacher, metadata.inputs),
        }
        weights = {name: value.detach().cpu().contiguous().clone() for name, value in teacher.state_dict().items()}
    try:
        content = json.dumps(config, indent=2, allow_nan=False) + "\n"
        require_schema(strict_json(content), SCHEMA)
    except (ValueError, TypeError) as error:
        raise DfkdError(f"release={folder} cannot be written: {brief(str(error))}; mend what it is given") from error
    if len(classes) != metadata.num_classes:
        raise DfkdError(
            f"release={folder}: {len(classes)} names for the metadata's {metadata.num_classes} classes; name each"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / CONFIG, content.encode())
    write_atomically(folder / MODEL, save(weights, metadata={"format": "pt"}))
    metadata.save(folder / METADATA)
    seal(folder, {"phase": "release"})
    write_atomically(folder / CARD, model_card(config, metadata, remark).encode())
    return read_release(folder)


def read_release(folder: str | Path, teacher_settings: Network | None = None) -> Release:
    """A release folder, checked against its manifest, the schemas, and one file against the other; what its tensors hold is checked when
    they are loaded. ``teacher_settings`` name a teacher that is none of the project's networks. Raises DfkdError for anything missing,
    altered, of another version, or that cannot be."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DfkdError(f"{folder} is not a folder; give the one that pipeline=release wrote")
    manifest = verify(folder)
    for name in (CONFIG, MODEL, METADATA):
        if name not in manifest["files"]:
            raise DfkdError(f"{folder / MANIFEST} does not list {name}; fetch the release again")
    sums = {name: manifest["files"][name]["sha256"] for name in (CONFIG, MODEL, METADATA)}
    release = Release(folder, _read_config(folder / CONFIG), canonical_json(sums), teacher_settings)
    header, config = release._header.said, release.config
    if header["teacher_sha256"] != config["teacher_sha256"]:
        raise DfkdError(f"{folder / METADATA} belongs to another teacher; use the two files of one release")
    if header["num_classes"] != len(release.classes) or InputSpec.from_json(header["inputs"]) != release.inputs:
        raise DfkdError(f"{folder}: {METADATA} and {CONFIG} differ in classes or inputs; fetch the release again")
    if any(len(answer) != len(release.classes) for answer in config["probe"]):
        raise DfkdError(
            f"{folder / CONFIG} has answers to probes of another number of classes; fetch the release again"
        )
    if config["num_parameters"] > (held := _num_weights(folder / MODEL)):
        raise DfkdError(
            f"{folder / CONFIG} says {config['num_parameters']:,} parameters, and {MODEL} holds {held:,} numbers; fetch the release again"
        )
    return release


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path)
        if not isinstance(config, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError) as error:
        raise DfkdError(
            f"{path} is not JSON as a release has it ({brief(str(error))}); fetch the release again"
        ) from error
    if config.get("format") != FORMAT or config.get("format_version") != VERSION:
        said = brief(f"{config.get('format')} version {config.get('format_version')}")
        raise DfkdError(f"{path} is {said}, this program reads {FORMAT} version {VERSION}; update dfkd_exp")
    try:
        require_schema(config, SCHEMA)
        InputSpec.from_json(config["inputs"])
    except ValueError as error:
        raise DfkdError(
            f"{path} is not what {FORMAT} version {VERSION} promises ({error}); fetch the release again"
        ) from error
    return config


def _num_weights(path: Path) -> int:
    """How many numbers a file of weights says that it holds; that it does is checked as they are loaded."""
    try:
        header, _ = safetensors_header(path)
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, TypeError, KeyError, struct.error) as error:
        raise DfkdError(f"{path} is not safetensors ({brief(str(error))}); fetch the release again") from error


def holds_release(folder: Path) -> bool:
    """Whether a sound release lies there."""
    try:
        read_release(folder)
    except DfkdError:
        return False
    return True


def copy_release(release: Release, target: Path) -> Release:
    """Publish a release: a copy at ``target``, whole or not at all. The same release there already is fine, another is not."""
    if target.is_dir() and any(target.iterdir()):
        try:
            existing = read_release(target)
        except DfkdError:
            existing = None
        if existing is None or existing.digest != release.digest:
            raise DfkdError(f"release={target} holds something else already; name a new folder")
        return replace(release, folder=target)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent)) / "copy"
    try:
        beside.mkdir()
        # What the manifest lists, and the card. What lies beside these nobody vouches for: a link would publish the file that it leads to.
        names = [*verify(release.folder)["files"], MANIFEST]
        if (card := release.folder / CARD).is_file() and not card.is_symlink():
            names.append(CARD)
        for name in names:
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(release.folder / name, beside / name)
        read_release(beside)
        if target.is_dir():
            target.rmdir()
        beside.rename(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(beside.parent, ignore_errors=True)
    return replace(release, folder=target)
