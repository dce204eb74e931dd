"""Image classifiers of the library transformers: of the Hugging Face Hub, of a folder, or fresh by their type (extra: ``hub``)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief, in_brief
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.kind import Network, sha256_of
from dfkd_exp.models.published import Published, Wanted, quiet

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
OF_NO_ARCHITECTURE = {
    "model_type", "auto_map", "attn_implementation", "experts_implementation", "quantization_config", "dtype",
    "torch_dtype", "transformers_version", "name_or_path", "id2label", "label2id", "num_labels", "problem_type", "return_dict",
    "output_attentions", "output_hidden_states",
}  # fmt: skip
"""Entries of a config that are of code, precision, provenance or answers: what computes attention may be a name that is downloaded."""


@dataclass
class Hub(Published):
    """``model=org/name`` of the Hub, a folder that ``save_pretrained`` wrote, or a type such as ``vit``, which has fresh weights.

    With a release travel the type and the config, from which the library's own classes are made; nobody's code is fetched.
    """

    kind: ClassVar[str] = "hub"
    of_weights: ClassVar[tuple[str, ...]] = (*Published.of_weights, "revision", "source")

    revision: str | None = None
    """Commit or tag on the Hub; name one for results that others can repeat."""
    config: dict[str, Any] = field(default_factory=dict)
    """Entries of its config, over those that it has; the number of classes, the size of images and their channels are the data's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("config", isinstance(self.config, dict), "entries by name")
        if self._by_type:
            self.pretrained = self.checkpoint is not None

    @property
    def title(self) -> str:
        return Path(self.model).name or self.kind

    @property
    def _by_type(self) -> bool:
        """Whether the model is said by its type, or not at all, as by who receives it."""
        return "/" not in self.model and not Path(self.model or "?").is_dir()

    def _file(self, name: str) -> Path | None:
        """A file that lies beside the weights; None if there is none of that name."""
        folder = Path(self.model)
        if folder.is_dir():
            return folder / name if (folder / name).is_file() else None
        self.imported()
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            with quiet():
                return Path(hf_hub_download(self.model, name, revision=self.revision))
        except Exception as error:
            if isinstance(error, EntryNotFoundError) and name != "config.json":
                return None
            raise DfkdError(
                f"{self.named('model')}={brief(self.model)} is no folder, and cannot be fetched from the Hub ({in_brief(error)}); check "
                "name and network, or give a folder that save_pretrained wrote"
            ) from error

    def _json(self, name: str) -> dict[str, Any]:
        path = self._file(name)
        try:
            said = json.loads(path.read_text("utf-8")) if path else {}
        except ValueError as error:
            raise DfkdError(f"{path} is not JSON ({brief(str(error))}); fetch it again") from error
        return said if isinstance(said, dict) else {}

    @cached_property
    def _said(self) -> dict[str, Any]:
        """What ``config.json`` says."""
        if self._by_type:
            return {"model_type": self.model}
        said = self._json("config.json")
        if "model_type" not in said:
            of_timm = said.get("architecture")
            hint = f"it is timm's: {self._flag}=timm {self.named('model')}={brief(str(of_timm))}"
            raise DfkdError(
                f"{self.named('model')}={brief(self.model)}: its config.json names no model_type, as transformers writes it; "
                + (hint if of_timm else "give a folder that save_pretrained wrote")
            )
        return said

    def _architecture(self) -> dict[str, Any]:
        return {"model": self._said["model_type"], "config": {**_cleaned(self._said), **_cleaned(self.config)}}

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), **self._architecture(), "source": self._source() if self.pretrained else None}

    def _source(self) -> str | None:
        """Which weights: by their content, or the commit that they are of."""
        if self.checkpoint:
            return None
        if not Path(self.model).is_dir():
            config = self._file("config.json")
            return config.parent.name if config else None
        return next((sha256_of(path) for name in WEIGHTS if (path := self._file(name))), None)

    def architecture(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.title, "kwargs": self._architecture()}

    def completed(self, architecture: dict[str, Any]) -> Network | None:
        """As any network's; DfkdError where the release names not a type but what would be fetched."""
        settings = super().completed(architecture)
        if isinstance(settings, Hub) and not self.model and not settings._by_type:
            raise DfkdError(f"the release's teacher is to be {brief(settings.model)}, which is no type of network")
        return settings

    def wanted(self, inputs: InputSpec) -> Wanted:
        said, processor = self._said, self._json("preprocessor_config.json")
        if processor.get("do_flip_channel_order"):
            raise DfkdError(f"{self.named('model')}={self.model} wants colours as BGR, and images are RGB here")
        labels = [name for _, name in sorted((said.get("id2label") or {}).items(), key=lambda item: int(item[0]))]
        headed = any("ForImageClassification" in str(name) for name in said.get("architectures") or [])
        config = self._config(inputs, num_classes=1)
        channels = said.get("num_channels", getattr(config, "num_channels", 3))
        height, width = _size(processor, said) or inputs.shape[1:]
        fixed = (height, width) != inputs.shape[1:] and self._depends_on((height, width), inputs)
        mean, std = _normalisation(processor, channels)
        named = [] if all(re.fullmatch(r"LABEL_\d+", str(name)) for name in labels) else [*map(str, labels)]
        return Wanted(len(labels) or (2 if headed else 0), (channels, height, width), fixed, mean, std, named)

    def _depends_on(self, size: tuple[int, int], inputs: InputSpec) -> bool:
        """Whether weights for images of that size have other shapes than for ``inputs``, or it cannot be known."""
        specs = [InputSpec((inputs.shape[0], *one), inputs.low, inputs.high) for one in (size, inputs.shape[1:])]
        sketches = [self._without_memory(spec, num_classes=1) for spec in specs]
        shapes = [{name: value.shape for name, value in sketch.state_dict().items()} for sketch in sketches if sketch]
        return len(shapes) < 2 or shapes[0] != shapes[1]

    def _config(self, inputs: InputSpec, num_classes: int) -> Any:
        transformers = self.imported()
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

        own, classes = self._architecture(), MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
        known = set(classes) - {"timm_wrapper"}
        if own["model"] not in known:
            self.changed(model=own["model"]).require_known(
                False, lambda: known, "a type of transformers' image classifiers, or a folder"
            )
        with quiet():
            config = transformers.AutoConfig.for_model(own["model"], **own["config"], num_labels=num_classes)
        possible = classes[own["model"]]
        possible = (possible,) if isinstance(possible, str) else possible
        config.architectures = [next((name for name in config.architectures or () if name in possible), possible[0])]
        channels, height, width = inputs.shape
        parts: list[Any] = [config, getattr(config, "vision_config", None)]
        for part in parts:
            if hasattr(part, "num_channels"):
                part.num_channels = channels
            if hasattr(part, "image_size"):
                square = height == width and isinstance(part.image_size, int)
                part.image_size = height if square else (height, width)
        return config

    def make(self, inputs: InputSpec, num_classes: int) -> nn.Module:
        config = self._config(inputs, num_classes)
        with quiet():
            return self.imported().AutoModelForImageClassification.from_config(config, trust_remote_code=False)

    def published(self, inputs: InputSpec) -> Mapping[str, Tensor]:
        config = self._config(inputs, self.wanted(inputs).num_classes or 1)
        bars = self.imported().utils.logging
        shown = bars.is_progress_bar_enabled()
        bars.disable_progress_bar()
        try:
            network, info = self.imported().AutoModelForImageClassification.from_pretrained(
                self.model, config=config, revision=self.revision or "main", trust_remote_code=False, ignore_mismatched_sizes=True,
                output_loading_info=True,
            )  # fmt: skip
        finally:
            if shown:
                bars.enable_progress_bar()
        fresh = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
        return {name: value for name, value in network.state_dict().items() if name not in fresh}


def _cleaned(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that are of the architecture, those of parts of the network included."""
    return {
        name: _cleaned(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in OF_NO_ARCHITECTURE and not name.startswith("_")
    }


def _size(processor: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of the images that an image processor makes, or else that the config names."""
    cropped = processor.get("crop_size") if processor.get("do_center_crop") else None
    size = cropped or processor.get("size") or config.get("image_size")
    if isinstance(size, Mapping):
        size = [size["height"], size["width"]] if "height" in size else size.get("shortest_edge")
    return (size, size) if isinstance(size, int) else tuple(size) if size else None


def _normalisation(processor: Mapping[str, Any], channels: int) -> tuple[list[float], list[float]]:
    """Mean and deviation per channel, of pixels in [0, 1]: (255 f p - offset - mean) / std is what an image processor makes of them."""
    scale = 255 * processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 255
    offset = 1 if processor.get("rescale_offset") else 0
    normalised = processor.get("do_normalize", "image_mean" in processor)
    mean = processor.get("image_mean", [0.5] * channels) if normalised else [0.0] * channels
    std = processor.get("image_std", [0.5] * channels) if normalised else [1.0] * channels
    return [(value + offset) / scale for value in mean], [value / scale for value in std]
