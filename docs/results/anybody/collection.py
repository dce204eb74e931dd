"""Collecting the statistics of the public ResNet-20 beside its forward pass alone, in seconds of the processor:
python collection.py FOLDER_WITH_RESNET_PY CIFAR_ROOT."""

import sys
import time

import torch

sys.path.insert(0, sys.argv[1])
from resnet import resnet20

from dfkd_exp import AllLayers
from dfkd_exp.data import Cifar10
from dfkd_exp.metadata import Channels
from dfkd_exp.models.recording import frozen

torch.set_num_threads(1)
settings = Cifar10(root=sys.argv[2], mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
data = settings.load()
inputs = settings.inputs(data.shape)
images, labels = inputs.from_pixels(data.train.images[:1000]), data.train.labels[:1000]
order = labels.argsort(stable=True)
batches = list(zip(images[order].split(500), labels[order].split(500), strict=True))
network = frozen(resnet20())


def seconds(work):
    """The least of three."""
    found = []
    for _ in range(3):
        before = time.process_time()
        work()
        found.append(time.process_time() - before)
    return min(found)


def forward(size):
    with torch.inference_mode():
        for part in images.split(size):
            network(part)


by_500, by_125 = (seconds(lambda size=size: forward(size)) for size in (500, 125))
print(f"forward pass: {by_500:.2f} s by 500 images, {by_125:.2f} by 125")
for name, kind in (("channels", Channels()), ("per unit", AllLayers(covariance="top_only"))):
    taken = seconds(lambda kind=kind: kind.collect(network, batches, inputs))
    print(f"{name}: {taken:.2f} s, {taken / by_500:.2f} and {taken / by_125:.2f} times")
