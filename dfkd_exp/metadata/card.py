"""What a release's card says of metadata: what it holds, and what it may reveal. Each statistic is asked."""

from __future__ import annotations

import json

from dfkd_exp.harmless import as_code, brief, in_markdown
from dfkd_exp.metadata.metadata import Metadata
from dfkd_exp.metadata.statistic import Statistic

BASES = {
    "units": "",
    "channels": ", per channel",
    "regions": ", per channel and region of a grid of {}",
    "spectrum": ", log-power of each frequency",
    "styles": ", style of an image: mean and log-deviation per channel",
    "graph": ", graph Fourier",
}
COVARIANCES = ("full", "low_rank", "separable")
"""Summaries that hold some."""
FEW = 10
"""Images of a class that are warned of."""
SCOPES = {"class": "Per class", "all": "Of all classes together"}


def images_behind(metadata: Metadata, classes: list[str]) -> str:
    """How many images the statistics are of, and how they are spread over the classes."""
    counts = metadata.counts
    if counts is None:
        return "none were needed"
    order = sorted(range(len(counts)), key=counts.__getitem__)
    if counts[order[0]] == counts[order[-1]]:
        return f"{sum(counts):,} ({counts[0]:,} in each class)"
    fewest, most = (f"{counts[i]:,} in the {{}} class, {in_markdown(classes[i])}" for i in (order[0], order[-1]))
    return f"{sum(counts):,} ({fewest.format('smallest')}; {most.format('largest')})"


def images_per_class(metadata: Metadata, classes: list[str]) -> str:
    """A section with the images of each class as JSON, where they differ; else nothing."""
    counts = metadata.counts
    if counts is None or min(counts) == max(counts):
        return ""
    text = json.dumps(dict(zip(classes, counts, strict=True))).replace("`", "\\u0060")
    few = sum(count < FEW for count in counts)
    said = (
        f"{few:,} classes have fewer than {FEW} images: their statistics come close to showing them.\n\n" if few else ""
    )
    return f"## Images of each class\n\n{said}```json\n{text}\n```\n\n"


def warning_of_few(counts: list[int], classes: list[str]) -> str:
    """What an owner should know of classes of few images before he publishes; or nothing."""
    few = [i for i, count in enumerate(counts) if count < FEW]
    if not few:
        return ""
    fewest = min(few, key=counts.__getitem__)
    return (
        f"{len(few):,} of {len(counts):,} classes have fewer than {FEW} training images, {brief(classes[fewest])} only {counts[fewest]:,}: "
        "their statistics are poor, covariances most of all, and come close to showing the images; leave such classes out or merge them"
    )


def what_it_holds(metadata: Metadata) -> str:
    """In words, and a table with a row per statistic."""
    if not metadata.statistics:
        return "Nothing: no statistics are published beside the network."
    said = dict.fromkeys(
        f"{SCOPES[statistic.scope]}, for a layer below: {statistic.summary.holds}." for statistic in metadata.statistics
    )
    signal = metadata.signal.removesuffix("_relu")
    rows = [_row(metadata, statistic) for statistic in metadata.statistics]
    return "\n".join(
        [
            f"{' '.join(said)} Outputs are {signal} the non-linearity, the logits divided by {metadata.temperature:g}.",
            "", "| layer | units | kept | bytes |", "|---|---|---|---|", *rows,
        ]
    )  # fmt: skip


def _row(metadata: Metadata, statistic: Statistic) -> str:
    layers = [metadata.layers[index] for index in statistic.layers]
    names = ", ".join(
        f"{as_code(layer.name)}{' (input)' if layer.side == 'input' else ''}" if layer.name else layer.title
        for layer in layers
    )
    shapes = " + ".join("x".join(map(str, layer.shape)) for layer in layers)
    kept = f"{statistic.summary.form.replace('_', '-')}{BASES[statistic.basis].format(statistic.grid)}"
    kept += ", all classes" if statistic.scope == "all" else ""
    return f"| {names} | {shapes} | {kept} | {metadata.bytes_of(statistic):,} |"


def what_it_may_reveal(metadata: Metadata) -> str:
    """A list, in Markdown."""
    of_data = any(statistic.summary.origin == "data" for statistic in metadata.statistics)
    said = (
        _of_means(metadata)
        if of_data
        else ["Nothing is published beside the network: the statistics are in its weights."]
    )
    said += dict.fromkeys(s.summary.reveals for s in metadata.statistics if s.summary.reveals)
    if dp := metadata.kind.get("dp"):
        neighbours = in_markdown(dp["neighbours"])
        said.append(
            f"**Differential privacy of the metadata**: epsilon {dp['epsilon']:g}, delta {dp['delta']:g}, where {neighbours}.\n"
            f"  Activations are clipped (root mean square {dp['clip']:g}), and their sums have Gaussian noise. The claim covers the\n"
            "  metadata and not the network's weights, which were trained without noise."
        )
    elif of_data:
        said.append(WITHOUT_NOISE)
    said.append("The weights of the network reveal something of their own, with or without metadata.")
    return "\n".join(f"* {sentence}" for sentence in said)


def _of_means(metadata: Metadata) -> list[str]:
    """What statistics of training images show, by what is kept of them."""
    first = [
        s for s in metadata.statistics if 0 in s.layers and len(metadata.layers) > 1 and s.basis in ("units", "graph")
    ]
    common = (
        "A class's mean activations show what its images have in common. Where a class holds few images, or images of one\n"
        "  person or one object, that is close to showing the images themselves."
    )
    if first:
        common += " From the first layer's mean, the class's mean image can\n  often be computed."
    resemble = "Images reconstructed from the statistics resemble the training images' common features; rare features can be among them."
    if any(s.summary.form in COVARIANCES for s in first):
        resemble = f"Covariances of a full-rank first layer give the covariance of the pixels. {resemble}"
    return [common, resemble]


WITHOUT_NOISE = (
    "Nothing has noise added to it: no differential privacy is claimed. Anybody who holds all images of a class but one can\n"
    "  compute that one from a mean; and anybody who holds images that may have been among them can often tell which were, the\n"
    "  better, the fewer images a class has and the more numbers were kept of it."
)
