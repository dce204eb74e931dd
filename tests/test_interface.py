"""The Python interface with networks and batches as people have them: what comes out is what plain ones give, bit for bit."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from dfkd_exp import (
    AllLayers,
    agreement,
    distill,
    predict_logits,
    read_release,
    reconstruct,
    take_output,
    write_release,
)
from dfkd_exp.errors import DfkdError
from dfkd_exp.models.by_import_path import ByImportPath
from dfkd_exp.models.recording import weights_digest
from dfkd_exp.reconstruction.engine.settings import Engine
from tests.models.returns import Returns, WithoutGradient
from tests.toy import CLASSES, INPUTS, toy_images, toy_teacher

IMAGES, LABELS = toy_images(10)
KIND = AllLayers(covariance="top_only")
PLAIN = Engine(precision="fp32", convolutions="direct", compile=False, images_per_batch=30)


def chain(teacher, batches, student, **options):
    metadata = KIND.collect(teacher, batches, **options)
    images = reconstruct(teacher, metadata, per_class=6, steps=3, engine=PLAIN)
    return metadata, images, distill(student, teacher, images, epochs=2, batch_size=6)


@pytest.fixture(scope="module")
def usual():
    return chain(Returns(), [(IMAGES, LABELS)], toy_teacher(1))


TEACHERS = {
    "tuple": lambda: Returns("tuple"),
    "dict": lambda: Returns("dict"),
    "nested": lambda: Returns("nested"),
    "said": lambda: take_output(Returns("both"), 0),
    "said_of_parallel": lambda: take_output(nn.DataParallel(Returns("both")), 0),
    "parallel": lambda: nn.DataParallel(Returns()),
    "averaged": lambda: AveragedModel(Returns("tuple")),
    "double": lambda: Returns().double(),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_of_any_teacher_the_same_images_and_student_are_made(usual, name):
    teacher = TEACHERS[name]()
    before = weights_digest(teacher), len(teacher._forward_hooks)
    metadata, images, student = chain(teacher, [(IMAGES, LABELS)], toy_teacher(1))
    wanted = usual[0].tensors()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in metadata.tensors().items())
    assert torch.equal(images.pixels, usual[1].pixels)
    assert weights_digest(student) == weights_digest(usual[2])
    assert (weights_digest(teacher), len(teacher._forward_hooks)) == before


@pytest.mark.parametrize("form", ["tuple", "dict", "map"])
def test_any_student_learns_the_same(usual, form):
    student = distill(Returns(form, seed=1), Returns(), usual[1], epochs=2, batch_size=6)
    assert weights_digest(student.net) == weights_digest(usual[2])
    assert isinstance(student(IMAGES), torch.Tensor) == (form == "map")
    assert not student._forward_hooks
    wrapped = nn.DataParallel(Returns(form, seed=1))
    assert distill(wrapped, Returns(), usual[1], epochs=2, batch_size=6) is wrapped
    assert weights_digest(wrapped.module.net) == weights_digest(usual[2])


@pytest.mark.parametrize(
    "batches",
    [
        [(IMAGES, LABELS[:, None])], [(IMAGES.numpy(), LABELS.tolist())], [{"image": IMAGES, "label": LABELS}],
        [(IMAGES, nn.functional.one_hot(LABELS, 3).float())], ((IMAGES[i : i + 30], LABELS[i : i + 30]) for i in (0,)),
    ],
)  # fmt: skip
def test_of_batches_in_any_form_the_metadata_is_the_same(usual, batches):
    tensors = KIND.collect(toy_teacher(), batches).tensors()
    assert all(torch.equal(tensor, usual[0].tensors()[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("form", ["logit", "squeezed", "sigmoid"])
def test_one_logit_is_two_classes(form):
    """The whole way, and as good as the two logits that it stands for."""

    class Two(Returns):
        def forward(self, images):
            z = super().forward(images)
            z = z[:, 1] - z[:, 0]
            return torch.stack((-z / 2, z / 2), 1)

    images, labels = IMAGES[LABELS < 2], LABELS[LABELS < 2]
    metadata = KIND.collect(Returns(form), [(images, labels)])
    wanted = KIND.collect(Two(), [(images, labels)])
    assert metadata.num_classes == 2
    assert torch.allclose(metadata.tensors()["statistics.3.mean"], wanted.tensors()["statistics.3.mean"], atol=1e-5)
    made = reconstruct(Returns(form), metadata, per_class=4, steps=2, engine=PLAIN)
    student = distill(Returns(form, seed=1), Returns(form), made, epochs=1, batch_size=4)
    logits = predict_logits(student, made.pixels, made.spec)
    assert logits.shape == (8, 2)
    z = toy_logit(student.net, made.inputs)
    assert torch.allclose(logits, torch.stack((-z / 2, z / 2), 1), atol=1e-5)
    assert not torch.equal(z, toy_logit(toy_teacher(1), made.inputs)), "it was trained"


def toy_logit(network, images):
    with torch.no_grad():
        logits = network(images)
    return logits[:, 1] - logits[:, 0]


def test_a_class_without_images_is_still_the_teachers():
    images, labels = IMAGES[LABELS < 2], LABELS[LABELS < 2]
    for teacher in (Returns(), Returns("tuple"), Returns("dict")):
        expected = r"returns 0 \[3\], 1 \[8\]" if teacher.form == "tuple" else "class 2 has no images"
        with pytest.raises(DfkdError, match=expected):
            KIND.collect(teacher, [(images, labels)])


def test_agreement_reads_what_networks_return():
    z = torch.tensor([-2.0, 3, -1, 0.5])
    pairs = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]])
    for returned in (z, z[:, None], (z[:, None], "more"), {"logits": z}):
        assert agreement(returned, pairs) == 0.75
    assert agreement((pairs, torch.rand(4, 1, 6, 6)), pairs) == 1
    with pytest.raises(
        DfkdError, match=r"all in \[0, 1\], may be probabilities or logits; give what predict_logits makes"
    ):
        agreement(z.sigmoid(), pairs)
    with pytest.raises(DfkdError, match="there are 3 answers for 4 images"):
        agreement(z[:3], pairs)


def test_a_teacher_that_cannot_be_used_is_refused_at_once(usual):
    streamed = {"inputs": INPUTS}
    with pytest.raises(DfkdError, match=r"the teacher returns 0 \[3\], 1 \[8\] .*dfkd_exp.take_output\(network, '0'\)"):
        KIND.collect(Returns("tuple"), [(IMAGES, LABELS)], **streamed)
    metadata = KIND.collect(take_output(Returns("tuple"), 0), [(IMAGES, LABELS)], **streamed)
    with pytest.raises(DfkdError, match="the teacher computes without gradients"):
        reconstruct(WithoutGradient(), metadata, per_class=2, steps=1)
    with pytest.raises(DfkdError, match=r"the student must return logits of shape \[N, 3\].*returns \[8\]"):
        distill(Returns("features"), Returns(), usual[1])
    with pytest.raises(DfkdError, match=r"bytes \(uint8\)"):
        distill(Returns(), Returns(), (IMAGES * 255).byte())


def centred(logits):
    return logits - logits.mean(1, keepdim=True)


def test_a_release_says_what_its_teacher_returns(tmp_path):
    metadata = KIND.collect(Returns("tuple_of_softmax"), [(IMAGES, LABELS)])
    architecture = {
        "kind": "custom",
        "name": "Returns",
        "target": "theirs.Returns",
        "kwargs": {"form": "tuple_of_softmax"},
    }
    release = write_release(
        tmp_path / "release", Returns("tuple_of_softmax"), metadata, architecture, list("abc"), None
    )
    assert release.config["architecture"]["output"] == {"entry": "1", "form": "probabilities"}
    card = (release.folder / "README.md").read_text()
    assert "In its owner's code entry 1 is probabilities, and their logarithm, centred, taken as its logits." in card
    target = "tests.models.returns.Returns"
    teacher = read_release(release.folder, ByImportPath(target=target)).teacher()
    logits = predict_logits(teacher, IMAGES, INPUTS)
    assert torch.allclose(logits, centred(toy_teacher()(IMAGES)), atol=1e-5)
    with pytest.raises(DfkdError, match=r"is not the network that its owner has"):
        read_release(release.folder, ByImportPath(target=target, kwargs={"form": "both"}, output="1")).teacher()
    with pytest.raises(DfkdError, match=r"teacher has no teacher.output=2|has no output=2: it returns"):
        read_release(release.folder, ByImportPath(target=target, output="2")).teacher()
    assert metadata.num_classes == CLASSES
