"""The card of a release, the README.md that the Hub shows, and the command that a receiver says."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp.harmless import as_code, in_markdown
from dfkd_exp.inputs import noun
from dfkd_exp.models.ours import Ours
from dfkd_exp.models.published import LIBRARIES

if TYPE_CHECKING:
    from dfkd_exp.metadata.metadata import Metadata


def usage(config: dict[str, Any], folder: str | Path) -> str:
    """The receiver's command, but for the choice of a student."""
    return f"dfkd pipeline=from_release {shlex.quote(f'release={folder}')}{_naming(config['architecture'])}"


def _naming(architecture: dict[str, Any]) -> str:
    """What a receiver says to name the teacher: nothing, if it is one of the project's networks."""
    if Ours().completed(architecture):
        return ""
    said = {"teacher": architecture["kind"], "teacher.target": architecture.get("target")}
    return "".join(f" {shlex.quote(f'{flag}={value}')}" for flag, value in said.items() if value)


TASKS = {1: "tabular-classification", 3: "image-classification"}
"""What the Hub calls what is done with inputs of so many dimensions."""
MOST_ENDS = 8
"""Of ranges that are shown."""


def _inputs(inputs: dict[str, Any]) -> str:
    shape, (low, high) = inputs["shape"], ([*map(float, inputs[end])] for end in ("low", "high"))
    size = " x ".join(map(str, shape))
    if len(shape) == 3:
        return f"{size}, pixels in [0, 1] scaled to {inputs['low']} … {inputs['high']} per channel"
    ends = (
        f"[{', '.join(f'{end:.6g}' for end in part[:MOST_ENDS])}{', …' * (len(part) > MOST_ENDS)}]"
        for part in (low, high)
    )
    return f"{noun(shape)} of {size} values, within {next(ends)} … {next(ends)} per {'feature' if len(shape) == 1 else 'channel'}"


def _measured(name: str, accuracy: float | None, task: str) -> str:
    """The accuracy as the Hub reads it, if there is one: YAML, in which JSON's texts are such too."""
    if accuracy is None:
        return ""
    return f"""metrics:
- accuracy
model-index:
- name: {json.dumps(name)}
  results:
  - task:
      type: {task}
    dataset:
      name: its owner's test set
      type: unpublished
    metrics:
    - type: accuracy
      value: {accuracy:.4f}
"""


def model_card(config: dict[str, Any], metadata: Metadata, remark: str = "") -> str:
    """The README.md of a release, with what the statistics hold and what they may reveal, and a ``remark`` of its owner's on the images."""
    from dfkd_exp.metadata import card

    name, own = config["architecture"]["name"], ""
    if naming := _naming(config["architecture"]):
        named = as_code(naming.strip())
        origin = LIBRARIES.get(config["architecture"]["kind"], "its owner")
        own = f"{as_code(name)} is not one of the project's networks: its code comes from {origin}, and {named} names it.\n\n"
    if output := config["architecture"].get("output"):
        from dfkd_exp.models.output import Output

        own += f"In its owner's code {in_markdown(Output.from_json(output, len(config['classes'])).notes[0])}.\n\n"
    measured = "not measured" if config["test_accuracy"] is None else f"{100 * config['test_accuracy']:.2f} %"
    shape = config["inputs"]["shape"]
    what, task = noun(shape), TASKS.get(len(shape), "other")
    return f"""---
library_name: dfkd_exp
pipeline_tag: {task}
tags:
- knowledge-distillation
- data-free
# license: yours to choose, for example mit; without one nobody may use it
{_measured(name, config["test_accuracy"], task)}---
# {in_markdown(name)}, with metadata for data-free distillation

A trained network ({config["num_parameters"]:,} parameters) and a summary of its activations on its training {what}, from which
somebody without those {what} can distil a smaller network.

| | |
|---|---|
| inputs | {_inputs(config["inputs"])} |
| classes | {", ".join(map(in_markdown, config["classes"]))} |
| accuracy on its owner's test set | {measured} |
| {what} behind the statistics | {card.images_behind(metadata, config["classes"])}{f"; {in_markdown(remark)}" if remark else ""} |
| kind of metadata | {in_markdown(metadata.kind["name"])}, {metadata.num_bytes:,} bytes |

## Use

```bash
{usage(config, "THIS_FOLDER")} student=mlp
```

From the Hub it is `release=hf://ORG/NAME`, or `release=hf://ORG/NAME@REVISION`.

{own}`metadata.safetensors` and `config.json` are read with `safetensors` and `json` alone; the format is specified in the project's
`docs/metadata-format.md`. `manifest.json` holds the sha256 of every file but this one.

## What the statistics hold

{card.what_it_holds(metadata)}

{card.images_per_class(metadata, config["classes"])}## What they may reveal

{card.what_it_may_reveal(metadata)}
"""
