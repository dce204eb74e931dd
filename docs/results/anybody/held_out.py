"""HintonNet on the first 50,000 training images of MNIST, tried on the last 10,000: python held_out.py RATE EPOCHS."""

import sys

import torch

from dfkd_exp.data import Mnist
from dfkd_exp.evaluation.metrics import accuracy, predict_logits
from dfkd_exp.models.networks import HintonNet
from dfkd_exp.training.augmentation import Affine
from dfkd_exp.training.optimizers import Adam
from dfkd_exp.training.schedules import OneCycle
from dfkd_exp.training.settings import Training
from dfkd_exp.training.supervised import train_on_labels
from dfkd_exp.training.transfer_set import FixedImages

rate, epochs = float(sys.argv[1]), int(sys.argv[2])
settings = Mnist()
data = settings.load()
inputs, images, labels = settings.inputs(data.shape), data.train.images, data.train.labels
torch.manual_seed(0)
network = HintonNet()
training = Training(epochs=epochs, optimizer=Adam(lr=rate), schedule=OneCycle(), augmentation=Affine())
shown = FixedImages.of(images[:50_000], labels[:50_000])
train_on_labels(network, shown, inputs, training, seed=0, label="training HintonNet")
answers = predict_logits(network, images[50_000:], inputs)
print(f"{accuracy(answers, labels[50_000:]):.2%} of the held-out images at a rate of {rate}, {epochs} epochs")
