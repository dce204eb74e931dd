"""What a kind of network is: where its architecture comes from, where its weights start, and what a release says of it.

A kind is a dataclass in a file of its own, named by yaml files in ``conf/teacher/`` and ``conf/student/``, or by import path. Its
module imports nothing heavy at the top.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from dfkd_exp.errors import DfkdError
from dfkd_exp.harmless import brief, in_brief
from dfkd_exp.import_paths import where
from dfkd_exp.inputs import InputSpec
from dfkd_exp.models.weight_files import Loaded, files_of
from dfkd_exp.settings import Settings, under_flag

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dfkd_exp.models.output import Output


@dataclass
class Network(Settings):
    """A network: its architecture, and where its weights start.

    A kind says how to `make` the architecture; all else has an answer that it may replace.
    """

    kind: ClassVar[str] = ""
    """What a release calls the kind, and a receiver chooses it by; a class that does not say is called by its import path."""
    of_weights: ClassVar[tuple[str, ...]] = ()
    """Fields that say where the weights come from, beside ``checkpoint`` and ``weights``: no part of the architecture."""

    checkpoint: str | None = None
    """File with trained weights: safetensors, the index of several, or what torch.save wrote; a teacher that has one is not trained."""
    output: str | None = None
    """Which entry of the tuple or dict that it returns are the logits, a key or an index; null finds it by its shape."""
    weights: str | None = None
    """Which of a checkpoint's state_dicts or prefixes to take, by its name or a word of it, such as ema; null takes the one that fits."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "kind" not in vars(cls):
            cls.kind = f"{cls.__module__}.{cls.__qualname__}"

    def __post_init__(self) -> None:
        self.require("checkpoint", self.checkpoint is None or Path(self.checkpoint).is_file(), "a file that is there")

    @property
    def title(self) -> str:
        """What people call it."""
        return type(self).__name__

    @property
    def pretrained(self) -> bool:
        """Whether `build` gives it trained weights."""
        return self.checkpoint is not None

    @property
    def trained(self) -> bool:
        """Whether those are as a teacher needs them, so that it is not trained here."""
        return self.pretrained

    def make(self, inputs: InputSpec, num_classes: int) -> nn.Module:
        """The architecture with fresh weights, drawn from torch's global generator; nothing is downloaded.

        It takes ``[N, *inputs.shape]`` and puts out logits ``[N, num_classes]``, or what `dfkd_exp.models.output` makes them of.
        """
        raise NotImplementedError

    def find_code(self) -> None:
        """Import what `make` needs and is not ours. Called before it is made without memory, where a module's own tensors would be too."""

    def give_weights(self, network: nn.Module, inputs: InputSpec) -> Loaded | None:
        """Put the trained weights into ``network``, in place, and say what there is to say of them; called if it is `pretrained`."""
        from dfkd_exp.models.checkpoint import load_checkpoint

        return load_checkpoint(network, Path(str(self.checkpoint)), self.named("checkpoint"), self.title, self.weights)

    def wanted_inputs(self, given: InputSpec) -> InputSpec:
        """The inputs that it wants as a teacher where the data gives ``given``: those, or the normalisation or shape of its own."""
        return given

    def class_names(self, inputs: InputSpec) -> list[str]:
        """What its weights call their classes, in the order of the logits; empty where nothing says so."""
        return []

    def check_classes(self, inputs: InputSpec, num_classes: int) -> None:
        """Raise DfkdError if its weights are known to be for others than ``num_classes`` classes."""

    def identity(self) -> dict[str, Any]:
        """The kind, its fields and, for a checkpoint, the sha256 of its content, wherever it lies."""
        sha256 = sha256_of(Path(self.checkpoint)) if self.checkpoint else None
        identity = {**super().identity(), "kind": self.kind, "checkpoint": sha256}
        return {name: value for name, value in identity.items() if name != "output" or value is not None}

    def function(self) -> dict[str, Any]:
        """Of its `identity` what does not decide its weights: for the keys of what is made with a network whose weights are known."""
        return {name: value for name, value in self.identity().items() if name not in self._of_weights}

    def architecture(self) -> dict[str, Any]:
        """What a release says of it, JSON-able: the kind, a name for people, and what somebody with the kind's code builds it from."""
        kwargs = {name: value for name, value in asdict(self).items() if name not in self._of_weights | {"output"}}
        return {"kind": self.kind, "name": self.title, "kwargs": kwargs}

    def completed(self, architecture: dict[str, Any]) -> Network | None:
        """These settings as a receiver's answer to what a release says of its teacher; None if they do not mean that network.

        Fields of the architecture that the receiver left at their defaults are the release's. No name in it is imported.
        """
        if architecture["kind"] != self.kind:
            return self
        own, said = self.architecture()["kwargs"], architecture["kwargs"]
        unsaid = [name for name, default in _defaults(self).items() if name in own and own[name] == default]
        try:
            return self.changed(**{name: said[name] for name in unsaid if name in said})
        except DfkdError:
            raise
        except Exception as error:  # what a check makes of a text in the place of a number
            raise DfkdError(
                f"the arguments {brief(str(said))} of the release's teacher do not fit {self.title}: {brief(str(error))}"
            ) from error

    def changed(self, **values: Any) -> Self:
        """A copy with other ``values`` of fields, under the same flag."""
        with under_flag(self.flag):
            return replace(self, **values)

    def build(
        self, inputs: InputSpec, num_classes: int, seed: int, tell: Callable[[Loaded], object] | None = None
    ) -> nn.Module:
        """The network with fresh weights from ``seed``, or trained ones; ``tell`` hears of them, and of what was done for it to put out
        logits. Torch's generator is left alone."""
        from dfkd_exp.models.plain import output_of

        self.check_classes(inputs, num_classes)
        network, notes = self._made(inputs, num_classes, seed)
        told = []
        if self.pretrained:
            if (loaded := self.give_weights(network, inputs)) is not None:
                told.append(loaded)
            self._attach_output(network, inputs, num_classes)
        if (output := output_of(network)) is not None:
            told.append(Loaded([*notes, *output.notes], None, of="network"))
        if tell is not None:
            for said in told:
                tell(said)
        return network

    def untrained(self, inputs: InputSpec, num_classes: int, seed: int) -> nn.Module:
        """As `build`, but with fresh weights in any case: none are read or downloaded."""
        self.check_classes(inputs, num_classes)
        return self._made(inputs, num_classes, seed)[0]

    def rebuilt(
        self,
        state: dict[str, Tensor],
        source: str,
        inputs: InputSpec,
        num_classes: int,
        output: dict[str, Any] | None = None,
    ) -> nn.Module:
        """The architecture with the weights ``state`` of ``source``, wherever the settings would take weights from; ``output``: what a
        release says of what it puts out. It is tried without memory first: a release may ask for a network that is larger than its
        weights, and than the machine."""
        from dfkd_exp.models.checkpoint import load_weights, require_fit
        from dfkd_exp.models.output import Output

        try:
            sketch = self._without_memory(inputs, num_classes)
            if sketch is not None:
                require_fit(sketch, state, source, self.title)
            network, _ = self._made(inputs, num_classes, seed=0)
        except DfkdError as error:
            raise DfkdError(str(error) if source in str(error) else f"{source}: {error}") from error
        load_weights(network, state, source, self.title)
        known = None if output is None or self.output is not None else Output.from_json(output, num_classes)
        self._attach_output(network, inputs, num_classes, f", of {source},", known)
        return network

    def _without_memory(self, inputs: InputSpec, num_classes: int) -> nn.Module | None:
        """The architecture on the device ``meta``, where tensors have shapes alone; None if somebody's own code needs their values."""
        import torch

        self.find_code()
        try:
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that values are not copied
                sketch, _ = self._plain(inputs, num_classes)
                with suppress(Exception), torch.no_grad():  # it may make layers when it first sees inputs
                    sketch.eval()(torch.zeros(2, *inputs.shape))
                return sketch
        except Exception as error:
            if "meta" in str(error.__cause__ or error).lower():  # so torch says what cannot be done there
                return None
            raise

    @property
    def _of_weights(self) -> set[str]:
        return {"checkpoint", "weights", *self.of_weights}

    @property
    def _flag(self) -> str:
        return self.flag or "the network"

    def _made(self, inputs: InputSpec, num_classes: int, seed: int) -> tuple[nn.Module, list[str]]:
        """The architecture with fresh weights, putting out logits, and what was done to it."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network, notes = self._plain(inputs, num_classes)
            self._attach_output(network, inputs, num_classes)
        return network, notes

    def _plain(self, inputs: InputSpec, num_classes: int) -> tuple[nn.Module, list[str]]:
        import torch

        from dfkd_exp.models.plain import plain, way_out

        try:
            network = self.make(inputs, num_classes)
        except DfkdError as error:
            if self._flag in str(error):
                raise
            raise DfkdError(f"{self._flag} {self.title}: {error}") from error
        except Exception as error:  # somebody's own code, or sizes that no tensor has
            kwargs = self.architecture()["kwargs"]
            what = (
                f"the arguments {brief(str(kwargs))} do not fit {self.title}"
                if kwargs
                else f"{self.title} cannot be made"
            )
            raise DfkdError(f"{self._flag}: {what}: {in_brief(error)}{where(error)}{way_out(error)}") from error
        if not isinstance(network, torch.nn.Module):
            raise DfkdError(f"{self._flag}: {self.title} is not a torch.nn.Module but {type(network).__name__}")
        if any(parameter.device.type not in ("cpu", "meta") for parameter in network.parameters()):
            network.cpu()
        return plain(network, f"{self._flag} {self.title}")

    def _attach_output(
        self, network: nn.Module, inputs: InputSpec, num_classes: int, of: str = "", known: Output | None = None
    ) -> None:
        from dfkd_exp.models.plain import attach_output

        name, say = f"{self._flag} {self.title}{of}", f"{self.named('output')}={{}}"
        attach_output(network, inputs.shape, num_classes, name, self.output, say, known)


def _defaults(settings: Network) -> dict[str, Any]:
    """By field, what it is where nobody says otherwise."""
    return {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(settings)}


def sha256_of(path: Path) -> str:
    """Of a checkpoint's only file, or of the sums of its several."""
    sums = []
    for part in files_of(path):
        with part.open("rb") as file:
            sums.append(hashlib.file_digest(file, "sha256").hexdigest())
    return sums[0] if len(sums) == 1 else hashlib.sha256(" ".join(sums).encode()).hexdigest()
