"""Images and labels. A data set is a file here and a yaml in ``conf/data/``."""

from dfkd_exp.data.arrays import OwnArrays
from dfkd_exp.data.base import Data, NoData
from dfkd_exp.data.celeba import CelebA
from dfkd_exp.data.cifar import Cifar10, Cifar100
from dfkd_exp.data.digits import Digits
from dfkd_exp.data.hub import Hub
from dfkd_exp.data.idx import FashionMnist, IdxData, Mnist
from dfkd_exp.data.image_folder import ImageFolder
from dfkd_exp.data.waves import Waves
from dfkd_exp.data.wine import Wine

__all__ = [
    "CelebA",
    "Cifar10",
    "Cifar100",
    "Data",
    "Digits",
    "FashionMnist",
    "Hub",
    "IdxData",
    "ImageFolder",
    "Mnist",
    "NoData",
    "OwnArrays",
    "Waves",
    "Wine",
]
