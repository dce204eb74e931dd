"""The card of a release, the README.md that the Hub shows, and the command that a receiver says."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfkd_exp.harmless import as_code, in_markdown
from dfkd_exp.models.ours import Ours

if TYPE_CHECKING:
    from dfkd_exp.metadata.metadata import Metadata


def usage(config: dict[str, Any], folder: str | Path) -> str:
    """The receiver's command, but for the choice of a student."""
    return f"dfkd pipeline=from_release release={folder}{_naming(config['architecture'])}"


def _naming(architecture: dict[str, Any]) -> str:
    """What a receiver says to name the teacher: nothing, if it is one of the project's networks."""
    if Ours().completed(architecture):
        return ""
    said = {"teacher": architecture["kind"], "teacher.target": architecture.get("target")}
    return "".join(f" {shlex.quote(f'{flag}={value}')}" for flag, value in said.items() if value)


def model_card(config: dict[str, Any], metadata: Metadata) -> str:
    """The README.md of a release, with what the statistics hold and what they may reveal."""
    from dfkd_exp.metadata import card

    name, own = config["architecture"]["name"], ""
    if naming := _naming(config["architecture"]):
        named = as_code(naming.strip())
        own = f"{as_code(name)} is not one of the project's networks: its code comes from its owner, and {named} names it.\n\n"
    if output := config["architecture"].get("output"):
        from dfkd_exp.models.output import Output

        own += f"In its owner's code {in_markdown(Output.from_json(output, len(config['classes'])).notes[0])}.\n\n"
    measured = "not measured" if config["test_accuracy"] is None else f"{100 * config['test_accuracy']:.2f} %"
    channels, height, width = config["inputs"]["shape"]
    return f"""---
library_name: dfkd_exp
pipeline_tag: image-classification
tags:
- knowledge-distillation
- data-free
---
# {in_markdown(name)}, with metadata for data-free distillation

A trained network ({config["num_parameters"]:,} parameters) and a summary of its activations on its training images, from which
somebody without those images can distil a smaller network.

| | |
|---|---|
| inputs | {channels} x {height} x {width}, pixels in [0, 1] scaled to {config["inputs"]["low"]} … {config["inputs"]["high"]} per channel |
| classes | {", ".join(map(in_markdown, config["classes"]))} |
| accuracy on its owner's test set | {measured} |
| images behind the statistics | {card.images_behind(metadata, config["classes"])} |
| kind of metadata | {in_markdown(metadata.kind["name"])}, {metadata.num_bytes:,} bytes |

## Use

```bash
{usage(config, "THIS_FOLDER")} student=mlp
```

{own}`metadata.safetensors` and `config.json` are read with `safetensors` and `json` alone; the format is specified in the project's
`docs/metadata-format.md`. `manifest.json` holds the sha256 of every file but this one.

## What the statistics hold

{card.what_it_holds(metadata)}

## What they may reveal

{card.what_it_may_reveal(metadata)}
"""
