"""IDX files: found where they may lie, read, downloaded, and never trusted unchecked."""

import gzip

import pytest
import torch

from dfkd_exp.data.idx import FashionMnist, Mnist, read_idx
from dfkd_exp.errors import DfkdError
from tests.conftest import REAL_DATA
from tests.mnist import idx, take_for_published
from tests.served import served

FILES = {"train-images-idx3-ubyte": (12, 4, 3), "train-labels-idx1-ubyte": (12,)} | {
    "t10k-images-idx3-ubyte": (5, 4, 3),
    "t10k-labels-idx1-ubyte": (5,),
}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The contents of the four files of a made-up MNIST, which `Mnist` then takes for the published one."""
    generator = torch.Generator().manual_seed(0)
    contents = {}
    for name, shape in FILES.items():
        values = torch.randint(0, 10 if "labels" in name else 256, shape, generator=generator, dtype=torch.uint8)
        contents[name] = idx(values)
    take_for_published(contents, monkeypatch)
    monkeypatch.setenv("DFKD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("DFKD_DATA_DIR", raising=False)
    return contents


def put(contents, folder, zipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("folder", ["", "mnist", "MNIST/raw"])
def test_files_are_found_raw_or_zipped_where_they_may_lie(small, tmp_path, folder, zipped):
    put(small, tmp_path / folder, zipped)
    data = Mnist(root=str(tmp_path), download=False).load()
    assert data.shape == (1, 4, 3)
    assert (len(data.train), len(data.test)) == (12, 5)
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.numpy().tobytes() == small["train-images-idx3-ubyte"][16:]
    assert bytes(data.test.labels.tolist()) == small["t10k-labels-idx1-ubyte"][8:]
    assert data.train.labels.dtype == torch.int64


def test_padding_surrounds_the_images_with_zeros_and_is_not_counted_in_bytes(small, tmp_path):
    put(small, tmp_path)
    plain, padded = (Mnist(root=str(tmp_path), pad=pad).load() for pad in (0, 2))
    assert padded.shape == (1, 8, 7)
    assert torch.equal(padded.train.images[..., 2:-2, 2:-2], plain.train.images)
    assert padded.train.images.sum() == plain.train.images.sum()
    assert padded.bytes_per_image == plain.bytes_per_image == 12


def test_the_environment_says_where_data_lies(small, tmp_path, monkeypatch):
    put(small, tmp_path / "data" / "mnist")
    with pytest.raises(DfkdError, match=r"train-images-idx3-ubyte of Mnist is not in .*set data.root or DFKD_DATA_DIR"):
        Mnist(download=False).load()
    monkeypatch.setenv("DFKD_DATA_DIR", str(tmp_path / "data"))
    assert len(Mnist(download=False).load().train) == 12


def test_a_root_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(DfkdError, match=r"data.root=.*nowhere is not a folder"):
        Mnist(root=str(tmp_path / "nowhere")).load()


def test_a_missing_file_is_named_and_a_named_root_is_not_filled(small, tmp_path):
    put(small, tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DfkdError, match=r"t10k-labels-idx1-ubyte of Mnist is not in"):
        Mnist(root=str(tmp_path), download=True).load()


def flip(content, where):
    return content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :]


@pytest.mark.parametrize("change", [lambda c: flip(c, 40), lambda c: c[:-1], lambda c: b""])
def test_an_altered_file_is_refused_by_name(small, tmp_path, change):
    put(small, tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DfkdError, match=r"train-images-idx3-ubyte is not the published"):
        Mnist(root=str(tmp_path)).load()


@pytest.mark.parametrize(
    "change", [lambda c: flip(c, 0), lambda c: flip(c, 12), lambda c: flip(c, -9), lambda c: c[:60]]
)
def test_a_damaged_zipped_file_is_refused_by_name(small, tmp_path, change):
    put(small, tmp_path, zipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DfkdError, match=r"train-images-idx3-ubyte.gz (cannot be read|is not the published)"):
        Mnist(root=str(tmp_path)).load()


@pytest.mark.parametrize("content", [b"\x00\x00\x0d\x01" + bytes(8), b"\x01\x00\x08\x01" + bytes(8)])
def test_other_idx_types_are_refused(content):
    with pytest.raises(DfkdError, match="not an IDX file of unsigned bytes"):
        read_idx(content)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder that this machine serves, from which `Mnist` then downloads."""
    (tmp_path / "served").mkdir()
    with served(tmp_path / "served", monkeypatch) as address:
        monkeypatch.setattr(Mnist, "url", address)
        yield tmp_path / "served"


def test_missing_files_are_downloaded_once_into_the_cache(small, server, tmp_path):
    put(small, server, zipped=True)
    first = Mnist().load()
    for path in server.iterdir():
        path.unlink()
    assert torch.equal(Mnist().load().train.images, first.train.images)
    assert {path.name for path in (tmp_path / "cache" / "mnist").iterdir()} == set(FILES)


@pytest.mark.parametrize("kept", ["other", "damaged"])
def test_a_download_that_is_not_the_published_file_is_refused_and_not_kept(small, server, tmp_path, kept):
    put(small, server, zipped=True)
    path = server / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(b"other") if kept == "other" else path.read_bytes()[:-20])
    with pytest.raises(DfkdError, match="train-images-idx3-ubyte"):
        Mnist().load()
    assert not list((tmp_path / "cache" / "mnist").glob("train-images*"))


def test_a_server_without_the_file_is_one_line_with_the_way_out(small, server):
    with pytest.raises(DfkdError, match=r"could not be downloaded from http://127.*set data.root or DFKD_DATA_DIR"):
        Mnist().load()


@pytest.mark.data
@pytest.mark.parametrize(
    ("cls", "counts"),
    [
        (Mnist, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        (FashionMnist, [6000] * 10),
    ],
)
def test_the_real_data(cls, counts):
    if not any((REAL_DATA / folder).is_dir() for folder in cls.folders):
        pytest.skip(f"{cls.__name__} is not under DFKD_DATA_DIR")
    data = cls(root=str(REAL_DATA), download=False).load()
    assert data.train.images.shape == (60_000, 1, 28, 28)
    assert data.test.images.shape == (10_000, 1, 28, 28)
    assert data.train.labels.bincount().tolist() == counts
    assert data.bytes_per_image == 784
    assert len(data.classes) == 10
