"""CIFAR's binary files: found where they may lie, read, downloaded, and never trusted unchecked."""

import hashlib
import io
import tarfile

import pytest
import torch

from dfkd_exp.data.cifar import Cifar10, Cifar100
from dfkd_exp.errors import DfkdError
from tests.conftest import REAL_DATA
from tests.served import served


def records(count, labels, seed):
    """So many records, each of ``labels`` labels and its pixels, and what they are of."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    classes = torch.arange(count, dtype=torch.uint8) % 10
    coarse = torch.full((count, labels - 1), 3, dtype=torch.uint8)
    return torch.cat([coarse, classes[:, None], pixels.flatten(1)], 1).numpy().tobytes(), pixels, classes


def files_of(kind):
    """Contents of the files of a made-up CIFAR, by name."""
    names = [*kind.train_files, kind.test_file]
    contents = {name: records(4, kind.labels_per_record, seed)[0] for seed, name in enumerate(names)}
    return contents | {kind.names_file: "".join(f"thing {n}\n" for n in range(kind.num_classes)).encode() + b"\n"}


def put(contents, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def packed(kind, contents):
    """The archive that has them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in {**contents, "readme.html": b"hello"}.items():
            member = tarfile.TarInfo(f"{kind.folders[0]}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def no_other_place(monkeypatch, tmp_path):
    monkeypatch.setenv("DFKD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("DFKD_DATA_DIR", raising=False)


@pytest.mark.parametrize("kind", [Cifar10, Cifar100])
@pytest.mark.parametrize("folder", [0, 1, 2])
def test_pixels_and_labels_are_those_of_the_records_in_their_order(kind, folder, tmp_path):
    put(files_of(kind), tmp_path / kind.folders[folder])
    data = kind(root=str(tmp_path)).load()
    _, pixels, classes = records(4, kind.labels_per_record, seed=0)
    assert torch.equal(data.train.images[:4], pixels)
    assert torch.equal(data.train.labels[:4], classes.long())
    assert (len(data.train), len(data.test)) == (4 * len(kind.train_files), 4)
    assert data.classes == [f"thing {n}" for n in range(kind.num_classes)]
    assert data.bytes_per_image == 3072


def test_the_same_files_elsewhere_are_the_same_data_and_others_are_not(tmp_path):
    contents = files_of(Cifar10)
    put(contents, tmp_path / "one")
    put(contents, tmp_path / "two" / "cifar-10-batches-bin")
    put(contents | {"test_batch.bin": records(4, 1, seed=9)[0]}, tmp_path / "three")
    one, two, three = (Cifar10(root=str(tmp_path / name)).fingerprint() for name in ("one", "two", "three"))
    assert one == two != three


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("data_batch_2.bin", lambda c: c[:-1], r"data_batch_2.bin has 12,291 bytes, which are no whole number of records of 3,073"),
        ("test_batch.bin", lambda c: b"", r"test_batch.bin has 0 bytes"),
        ("data_batch_1.bin", lambda c: b"\x0a" + c[1:], r"a label is 10, and Cifar10 has 10 classes from 0"),
        ("batches.meta.txt", lambda c: c.replace(b"thing 3\n", b""), r"batches.meta.txt names 9 classes, not 10"),
    ],
)  # fmt: skip
def test_an_altered_file_is_refused_by_name(tmp_path, name, change, message):
    contents = files_of(Cifar10)
    put(contents | {name: change(contents[name])}, tmp_path)
    with pytest.raises(DfkdError, match=message):
        Cifar10(root=str(tmp_path)).load()


def test_who_has_the_pickled_version_is_told_which_is_read(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DfkdError, match=r"cifar-10-binary.tar.gz \(the pickled version is never read\)"):
        Cifar10(root=str(tmp_path)).load()


@pytest.mark.parametrize("kind", [Cifar10, Cifar100])
def test_the_archive_is_downloaded_once_into_the_cache(kind, tmp_path, monkeypatch):
    contents = files_of(kind)
    archive = packed(kind, contents)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / kind.archive).write_bytes(archive)
    monkeypatch.setattr(kind, "sha256", hashlib.sha256(archive).hexdigest())
    with served(tmp_path / "served", monkeypatch) as address:
        monkeypatch.setattr(kind, "url", address)
        first = kind().load()
    assert torch.equal(kind().load().train.images, first.train.images), "without the server"
    assert {path.name for path in (tmp_path / "cache" / kind.folders[0]).iterdir()} == set(contents)


def test_a_download_that_is_not_the_published_archive_is_refused_and_not_kept(tmp_path, monkeypatch):
    put({Cifar10.archive: packed(Cifar10, files_of(Cifar10))}, tmp_path / "served")
    with served(tmp_path / "served", monkeypatch) as address:
        monkeypatch.setattr(Cifar10, "url", address)
        with pytest.raises(DfkdError, match=r"cifar-10-binary.tar.gz is not the published file"):
            Cifar10().load()
    assert not list((tmp_path / "cache" / Cifar10.folders[0]).iterdir())


@pytest.mark.data
def test_real_photographs_are_read(tmp_path):
    root = REAL_DATA / "cifar10_small"
    if not root.is_dir():
        pytest.skip("needs cifar10_small/ under DFKD_DATA_DIR")
    data = Cifar10(root=str(root)).load()
    assert (len(data.train), len(data.test)) == (1000, 500)
    assert data.train.labels.bincount().tolist() == [100] * 10
    means = data.train.images.double().mean((0, 2, 3)) / 255
    assert torch.allclose(means, torch.tensor([0.4914, 0.4822, 0.4465]).double(), atol=0.02), (
        "as published of the whole"
    )
    assert data.classes[0] == "airplane"
