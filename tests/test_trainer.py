"""The Trainer that the phases run on."""

import pytest

from dfkd_exp import trainer
from dfkd_exp.trainer import TrainerSettings


@pytest.mark.parametrize(("precision", "there", "said"), [
    ("bf16-mixed", False, 1), ("bf16-mixed", True, 0), ("32-true", False, 0),
])  # fmt: skip
def test_that_bf16_is_emulated_is_said_once(precision, there, said, monkeypatch, capsys):
    monkeypatch.setattr(trainer, "_has_bf16", lambda: there)
    trainer._warn_of_bf16.cache_clear()
    for _ in range(2):
        TrainerSettings(accelerator="cpu", precision=precision).build()
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("trainer.precision=32-true") == said
