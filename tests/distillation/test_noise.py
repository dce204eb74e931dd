"""Noise as a transfer set: what does not fit into memory is refused before anything is computed."""

import pytest

from dfkd_exp.distillation.source import FromNoise
from dfkd_exp.errors import DfkdError


def test_noise_that_does_not_fit_into_memory_is_refused_beforehand(monkeypatch):
    monkeypatch.setattr("dfkd_exp.metadata.memory.machine_memory", lambda: 10**10)
    with pytest.raises(
        DfkdError, match=r"^source: 38,400 images of noise take about 23\.1 GB of memory.*fewer source\.images"
    ):
        FromNoise().check_memory(38_400, (3, 224, 224))
    FromNoise(images=10).check_memory(38_400, (3, 224, 224))
