"""The loops that others have published are run as they are: here stand-ins of them, with the same joints."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import students
from dfkd_exp.models.ours import builder

DAFL = """
import argparse
from torchvision.datasets.mnist import MNIST
from torch.utils.data import DataLoader
import torch
from torch import nn
parser = argparse.ArgumentParser()
parser.add_argument('--batch_size', type=int, default=512)
opt = parser.parse_args()
class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(7, 128), nn.Linear(128, 64), nn.Linear(64, 1024))
    def forward(self, z):
        img = self.layers(z).view(-1, 1, 32, 32)
        return img
generator = Generator().cuda()
teacher = torch.load('teacher').cuda()
net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)).cuda()
data_test_loader = DataLoader(MNIST('data'), batch_size=64) if False else DataLoader(data_test, batch_size=64)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
batches_done = 0
for epoch in range(200):
    for i in range(120):
        net.train()
        wanted, features = teacher(generator(torch.randn(opt.batch_size, 7)), out_feature=True)
        assert features.shape == (opt.batch_size, 120)
        (net(torch.ones(2, 1, 32, 32)) - wanted[:2].detach()).square().mean().backward()
        optimizer.step()
        if i == 1:
            print('never')
"""
DFAD = """
import torch
import network
def train(args, teacher, student, generator, device, optimizer, epoch):
    for i in range(args.epoch_itrs):
        images = generator(torch.randn(args.batch_size, args.nz))
        (student(images) - teacher(images)).abs().mean().backward()
        for each in optimizer:
            each.step()
"""
NETWORK = """
from types import SimpleNamespace
from torch import nn
class LeNet5Half(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(1024, 10))
class GeneratorA(nn.Sequential):
    def __init__(self, nz, ngf, nc, img_size):
        super().__init__(nn.Linear(nz, ngf), nn.Linear(ngf, 1024), nn.Unflatten(1, (nc, img_size, img_size)))
lenet, gan = SimpleNamespace(LeNet5Half=LeNet5Half), SimpleNamespace(GeneratorA=GeneratorA)
"""


@pytest.mark.parametrize("method", students.LOOPS)
def test_a_student_is_trained_as_published_and_what_it_has_reached_is_said(method, tmp_path, monkeypatch, capsys):
    dafl = tmp_path / "Efficient-Computing" / "Data-Efficient-Model-Compression" / "DAFL"
    dfad = tmp_path / "Data-Free-Adversarial-Distillation"
    for folder, files in ((dafl, {"DAFL-train.py": DAFL}), (dfad, {"DFAD_mnist.py": DFAD, "network.py": NETWORK})):
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text)
    save_file(builder("lenet5")((1, 32, 32), 10).state_dict(), tmp_path / "teacher.safetensors")
    test = SimpleNamespace(images=torch.zeros(10, 1, 32, 32, dtype=torch.uint8), labels=torch.arange(10))
    monkeypatch.setattr(students, "Mnist", lambda pad: SimpleNamespace(load=lambda: SimpleNamespace(test=test)))
    students.main([
        method, "--published", str(tmp_path), "--teacher", str(tmp_path / "teacher.safetensors"), "--steps", "3",
        "--batch", "4", "--width", "2",
    ])  # fmt: skip
    said = capsys.readouterr().out
    assert f"{method}, 3 steps of 4 images, width 2, seed 0: 10.00 % after the last" in said
    assert "never" not in said


def test_a_step_changes_the_student_and_not_the_teacher(tmp_path):
    (tmp_path / "Efficient-Computing" / "Data-Efficient-Model-Compression" / "DAFL").mkdir(parents=True)
    (tmp_path / "Efficient-Computing/Data-Efficient-Model-Compression/DAFL/DAFL-train.py").write_text(DAFL)
    network = builder("lenet5")((1, 32, 32), 10)
    student, step = students.dafl(tmp_path, students.OfNormalised(network), 4, 2)
    before = [parameters.clone() for parameters in (student[1].weight, network.classifier[1].weight)]
    step()
    assert not student[1].weight.equal(before[0])
    assert network.classifier[1].weight.equal(before[1])


def test_what_is_to_be_cloned_is_said(tmp_path, capsys):
    with pytest.raises(SystemExit):
        students.main(["DFAD", "--published", str(tmp_path), "--teacher", "teacher.safetensors"])
    assert "clone https://github.com/VainF/Data-Free-Adversarial-Distillation into it" in capsys.readouterr().err
