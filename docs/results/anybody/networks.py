"""Networks of timm and transformers, as small as their arguments permit and with fresh weights, from statistics to a student.

    python networks.py FOLDER [NAME…]

Each is a run of the command, of a few steps, and seconds are of the whole run: what counts is whether all phases work. Writes
networks.csv beside this file; nothing is downloaded. ``FOLDER`` is where outputs are kept.
"""

import csv
import io
import json
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

from dfkd_exp.__main__ import main

TABLE = Path(__file__).with_name("networks.csv")
KINDS = {
    "all_layers": (),
    "channels": ("metadata=channels",),
    "batch_norm": ("metadata=batch_norm",),
}
TIMM = {
    "resnet": ("test_resnet", {}),
    "vit": ("test_vit", {"depth": 2}),
    "deit": ("deit_tiny_patch16_224", {"depth": 2, "embed_dim": 48}),
    "mixer": ("mixer_s32_224", {"mlp_ratio": [0.5, 0.5]}),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"depths": [1, 1], "embed_dim": 24, "num_heads": [2, 4], "window_size": 4},
    ),
    "convnext": ("test_convnext", {}),
    "efficientnet": ("test_efficientnet", {}),
    "mobilenetv3": ("mobilenetv3_small_050", {}),
    "regnet": ("regnetx_002", {}),
    "densenet": ("densenet121", {"block_config": [2, 2], "growth_rate": 8}),
    "ghostnet": ("ghostnet_050", {}),
    "repvgg": ("test_byobnet", {}),
    "maxvit": ("test_maxvit", {}),
    "mambaout": ("test_mambaout", {}),
    "nfnet": ("test_nfnet", {}),
    "levit": ("levit_128s", {}),
    "coat": ("test_coatnet", {}),
    "efficientvit": ("efficientvit_m0", {}),
    "edgenext": ("edgenext_xx_small", {}),
    "mobilevit": ("mobilevit_xxs", {}),
    "inception_v3": ("inception_v3", {}),
    "repghost": ("repghostnet_050", {}),
    "mobileone": ("mobileone_s0", {}),
    "beit": ("beit_base_patch16_224", {"depth": 2, "embed_dim": 48, "num_heads": 4}),
    "cait": ("cait_xxs24_224", {"depth": 2, "embed_dim": 48}),
    "xcit": ("xcit_nano_12_p8_224", {"depth": 2, "embed_dim": 48}),
    "pvt_v2": ("pvt_v2_b0", {"depths": [1, 1, 1, 1]}),
}
TRANSFORMERS = {
    "vit": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 8},
    "deit": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 8},
    "beit": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 8},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "mobilenet_v2": {"depth_multiplier": 0.25},
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "convnext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "convnextv2": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "swin": {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4},
    "swinv2": {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4},
    "dinov2": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8},
    "regnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 8},
    "bit": {"embedding_size": 8, "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 4},
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320},
    "levit": {"hidden_sizes": [16, 24, 32], "num_attention_heads": [1, 1, 1], "depths": [1, 1, 1], "key_dim": [8, 8, 8]},
    "poolformer": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_encoder_blocks": 2},
    "focalnet": {"embed_dim": 16, "depths": [1, 1], "hidden_sizes": [16, 32], "focal_levels": [2, 2], "focal_windows": [3, 3]},
    "pvt": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 3, 4]},
    "clip": {
        "vision_config": {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 8,
        },
    },
}  # fmt: skip


FIELDS = ["library", "family", "model", "metadata", "works", "parameters", "metadata_bytes", "seconds", "message"]


def write_images(folder: Path) -> None:
    """500 of scikit-learn's digits as images of 32x32 pixels."""
    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images[:500], digits.target, strict=False)):
        place = folder / ("test" if number % 5 == 4 else "train") / str(label)
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels * 255 / 16).round().astype("uint8"))
        image.resize((32, 32), Image.Resampling.BICUBIC).save(place / f"{number:04}.png")


def said(value: object) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{said(entry)}" for name, entry in value.items()) + "}"
    return str(value).replace(" ", "")


def flags(group: str, library: str, model: str, arguments: dict) -> list[str]:
    field = "kwargs" if library == "timm" else "config"
    given = [f"+{group}.{field}.{name}={said(value)}" for name, value in arguments.items()]
    return [f"{group}={library}", f"{group}.model={model}", f"{group}.pretrained=false", *given]


def run(folder: Path, images: Path, library: str, family: str, model: str, arguments: dict, kind: str) -> dict:
    """One run of the command, in this process: importing torch for each would take most of the time."""
    command = [
        "dfkd", f"outputs={folder / 'outputs'}", "data=image_folder", f"data.path={images}", "scale=smoke", "trainer=cpu",
        *flags("teacher", library, model, arguments), *flags("student", library, model, arguments), *KINDS[kind],
    ]  # fmt: skip
    before, sys.argv, code, printed = sys.argv, command, 0, io.StringIO()
    start = time.perf_counter()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    row = {"library": library, "family": family, "model": model, "metadata": kind, "works": "no" if code else "yes"}
    said = " ".join(printed.getvalue().split())
    if code:
        return {**row, "message": said[said.rfind("error: ") :].replace(str(folder), "…")}
    path = max((folder / "outputs" / "runs").rglob("result.json"), key=lambda path: path.stat().st_mtime_ns)
    result = json.loads(path.read_text("utf-8"))
    return {**row, "parameters": result["teacher_parameters"], "metadata_bytes": result["metadata_bytes"],
            "seconds": round(time.perf_counter() - start, 1)}  # fmt: skip


def survey() -> None:
    folder, names = Path(sys.argv[1]).resolve(), sys.argv[2:]
    if not (images := folder / "images").is_dir():
        write_images(images)
    rows = {}
    if names and TABLE.is_file():  # the others' rows stay
        with TABLE.open(newline="", encoding="utf-8") as file:
            rows = {(row["library"], row["family"], row["metadata"]): row for row in csv.DictReader(file)}
    networks = [("timm", family, *network) for family, network in TIMM.items()]
    networks += [("hub", family, family, arguments) for family, arguments in TRANSFORMERS.items()]
    for library, family, model, arguments in networks:
        for kind in KINDS:
            if names and not {family, f"{library}:{family}"} & set(names):
                continue
            row = run(folder, images, library, family, model, arguments, kind)
            print(row, flush=True)
            rows[library, family, kind] = row
            with TABLE.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, FIELDS)
                writer.writeheader()
                writer.writerows(rows.values())


if __name__ == "__main__":
    survey()
