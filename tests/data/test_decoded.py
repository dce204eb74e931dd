"""Decoding into a file that is mapped, and that nothing afterwards copies the images as a whole."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dfkd_exp.data import decoded
from dfkd_exp.data.celeba import CelebA
from dfkd_exp.data.mapped import map_images, write_images
from dfkd_exp.errors import DfkdError
from dfkd_exp.inputs import InputSpec
from dfkd_exp.manifest import verify
from tests.celeba import make_celeba

SIZE, AT_ONCE = 12, 8


class NeverWhole(TorchDispatchMode):
    """Refuses every operation that makes new data of more than ``AT_ONCE`` images out of pixels; counts the others."""

    def __init__(self):
        super().__init__()
        self.taken = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        pixels = [
            leaf
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, Tensor) and leaf.dtype == torch.uint8 and leaf.dim() == 4
        ]
        sources = {pixel.untyped_storage().data_ptr() for pixel in pixels}
        for made in tree_leaves(out) if pixels else []:
            if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in sources:
                assert made.numel() <= AT_ONCE * 3 * SIZE * SIZE, f"{func} makes {list(made.shape)}"
                self.taken += 1
        return out


@pytest.mark.parametrize(
    "flags",
    [["source=data"], ["source=data", "distillation=labels"], ["source=data", "distillation/augmentation=none"], []],
)
def test_no_phase_copies_the_images_as_a_whole(dfkd, tmp_path, monkeypatch, flags):
    monkeypatch.setattr(InputSpec, "images_at_once", AT_ONCE)
    monkeypatch.setattr("dfkd_exp.training.transfer_set.AT_ONCE_BYTES", AT_ONCE * 3 * SIZE * SIZE)
    monkeypatch.setattr("dfkd_exp.training.fit.MOST_BATCHES_PER_CHUNK", 1)
    root = make_celeba(tmp_path / "celeba")
    sizes = [f"data.size={SIZE}", f"training.batch_size={AT_ONCE}", f"distillation.batch_size={AT_ONCE}"]
    with NeverWhole() as watching:
        ran = dfkd("data=celeba", f"data.root={root}", *sizes, "teacher=cnn", "student=cnn", *flags)
    assert ran.code == 0, ran.err
    assert watching.taken > 12
    assert ran.result["phases"]["teacher"]["reused"] is False


def test_a_copy_of_the_whole_would_be_noticed(tmp_path):
    images = CelebA(root=str(make_celeba(tmp_path / "celeba")), size=SIZE).load().train.images
    for whole in (lambda: images[torch.arange(30)], images.float, images.clone, lambda: torch.cat([images, images])):
        with NeverWhole(), pytest.raises(AssertionError, match="makes"):
            whole()


def file_mapped_at(address: int) -> str | None:
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(side, 16) for side in line.split()[0].split("-"))
        if start <= address < end:
            return line.split(maxsplit=5)[5] if len(line.split()) > 5 else None
    return None


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells what is mapped")
def test_images_are_views_of_the_file(tmp_path):
    images = torch.randint(0, 256, (50, 3, 7, 5), dtype=torch.uint8)
    path = tmp_path / "train.safetensors"
    write_images(path, iter(images), torch.arange(50))
    mapped = map_images(path)
    for index in (0, 49):
        assert file_mapped_at(mapped.images[index].data_ptr()) == str(path)
    assert file_mapped_at(images.data_ptr()) != str(path)
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(bytes([255 - int(images[-1, -1, -1, -1])]))
    assert mapped.images[-1, -1, -1, -1] != images[-1, -1, -1, -1]


@pytest.mark.parametrize("count", [1, 3])
def test_the_file_is_one_of_safetensors(tmp_path, count):
    images = torch.randint(0, 256, (count, 1, 3, 5), dtype=torch.uint8)
    labels = torch.arange(count) * 2**40
    path = tmp_path / "train.safetensors"
    write_images(path, iter(images), labels)
    expected = load_file(path)
    mapped = map_images(path)
    for read in (expected, {"images": mapped.images, "labels": mapped.labels}):
        assert torch.equal(read["images"], images)
        assert torch.equal(read["labels"], labels)


def test_what_is_mapped_is_what_is_decoded_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(decoded, "WINDOW", 7)
    data = CelebA(root=str(make_celeba(tmp_path / "celeba")), size=SIZE, pad=1)
    in_memory, mapped = data.load(), data.load(tmp_path)
    for part in ("train", "test"):
        assert torch.equal(getattr(in_memory, part).images, getattr(mapped, part).images)
        assert torch.equal(getattr(in_memory, part).labels, getattr(mapped, part).labels)
    assert (mapped.classes, mapped.bytes_per_image) == (in_memory.classes, in_memory.bytes_per_image)


def test_few_decoded_images_wait_for_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(decoded, "WINDOW", 4)
    begun = []

    def read(index):
        begun.append(index)
        return torch.zeros(1, 2, 2, dtype=torch.uint8)

    for taken, _ in enumerate(decoded._decode(decoded.Part([0] * 30, read, str), 0, "decoding"), start=1):
        assert len(begun) <= taken + 4


def test_a_data_set_without_images_is_refused():
    with pytest.raises(DfkdError, match="decoding test images: there are none"):
        next(decoded._decode(decoded.Part([], lambda _: torch.zeros(0), str), 0, "decoding test images"))


def test_a_decoding_that_fails_leaves_nothing_and_is_made_anew(dfkd, tmp_path):
    root = make_celeba(tmp_path / "celeba")
    path = root / "img_align_celeba" / "000009.jpg"
    content = path.read_bytes()
    path.write_bytes(content[:300] + bytes(len(content) - 300))
    flags = ["data=celeba", f"data.root={root}", f"data.size={SIZE}", "teacher=cnn", "pipeline=release"]
    ran = dfkd(*flags)
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "000009.jpg is not a readable image" in ran.err
    path.write_bytes(content)
    ran = dfkd(*flags)
    assert ran.code == 0, ran.err
    [images] = (folder for folder in ran.outputs.glob("store/images/*") if folder.is_dir())
    assert set(verify(images)["files"]) == {"train.safetensors", "test.safetensors"}
    assert verify(images)["identity"]["attribute"] == "Smiling"
