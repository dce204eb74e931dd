"""A small teacher and all that its full covariances say."""

import pytest

from dfkd_exp.metadata import AllLayers
from dfkd_exp.models.recording import frozen
from tests.toy import INPUTS, toy_images, toy_teacher


@pytest.fixture(scope="module")
def teacher():
    return frozen(toy_teacher())


@pytest.fixture(scope="module")
def metadata(teacher):
    return AllLayers(covariance="full").collect(teacher, [toy_images()], INPUTS)
