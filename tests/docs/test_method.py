"""Every function that docs/method.md names exists, and so does every setting."""

import re
from pathlib import Path

from dfkd_exp.inputs import InputSpec
from tests.each import each

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "method.md").read_text()
SOURCE = "\n".join(path.read_text() for path in (ROOT / "dfkd_exp").rglob("*.py"))
CONFIG = (ROOT / "docs" / "config.md").read_text()
IN_CODE = {
    name
    for pattern in (r"\b(?:def|class) (\w+)", r"^[ \t]*(\w+)\b.*[:=]", r"\"(\w+)\"")
    for name in re.findall(pattern, SOURCE, re.MULTILINE)
}
"""Defined, given a value, or a word of the command line."""
NAMES = sorted(set(re.findall(r"`([A-Za-z_]+(?:\.[a-z_]+)?)`", TEXT)))


@each(NAMES)
def test_what_it_names_is_there(name):
    if name == "torch.optim":
        return
    last = name.split(".")[-1]
    assert last in IN_CODE or f"`{name}`" in CONFIG or f"{last}`" in CONFIG


def test_the_defaults_it_states_are_the_codes():
    from dfkd_exp.distillation.settings import Distillation
    from dfkd_exp.distillation.source import FromNoise
    from dfkd_exp.metadata import AllLayers, Channels, SpectralLayerPairs
    from dfkd_exp.metadata.gaussian_sums import OVERSAMPLING
    from dfkd_exp.reconstruction.moments import Moments
    from dfkd_exp.reconstruction.optimizers import Adam
    from dfkd_exp.reconstruction.parametrisation.latents import Latents
    from dfkd_exp.reconstruction.parametrisation.pixels import Pixels
    from dfkd_exp.reconstruction.terms.l2 import L2
    from dfkd_exp.reconstruction.terms.label import Label
    from dfkd_exp.reconstruction.terms.total_variation import TotalVariation
    from dfkd_exp.training import augmentation, optimizers, schedules
    from dfkd_exp.training.settings import Training

    kind, images, student, noise = AllLayers(), Moments(), Distillation(), FromNoise()
    records = SpectralLayerPairs()
    assert (records.records_per_class, records.fraction) == (100, 0.1)
    teacher = Training()
    assert (kind.temperature, kind.full_up_to, kind.low_rank_up_to, OVERSAMPLING) == (8, 2048, 16384, 16)
    assert (images.group_size, images.steps, images.schedule) == (100, 200, "cosine")
    pixels, plain = Pixels(), InputSpec.normalised((1, 28, 28), [], [])
    assert (pixels.start, pixels.means(plain), pixels.deviations(plain), pixels.clamp) == (
        "noise",
        (0.15,),
        (0.1,),
        True,
    )
    assert (pixels.blur_sigma, Latents().directions) == (0, 24)
    assert (images.logits_weight, images.shrinkage) == (1, 0.01)
    assert (TotalVariation().weight, L2().weight, Label().weight) == (0.1, 0.1, 1)
    assert (Channels().scope, Channels().full_up_to) == ("class", 128)
    assert (Adam().lr, Adam().betas) == (0.07, [0.9, 0.999])
    assert (teacher.batch_size, teacher.epochs, teacher.label_smoothing) == (64, 10, 0)
    assert (teacher.optimizer, teacher.schedule) == (optimizers.Adam(lr=1e-3), schedules.Constant())
    assert teacher.augmentation == augmentation.NoAugmentation()
    assert (student.batch_size, student.epochs) == (64, 30)
    assert (student.optimizer, student.schedule) == (optimizers.Adam(lr=3e-3), schedules.Cosine())
    assert (student.temperature, student.holdout) == (8, 0.05)
    assert student.suited_to((1, 28, 28)).augmentation == augmentation.Affine(degrees=10, shift=0.08, scale=0.1)
    assert augmentation.FlipAndCrop() == augmentation.FlipAndCrop(padding=4, reflect=False, flip=True)
    assert (noise.mean, noise.std) == (0.5, 0.5)
