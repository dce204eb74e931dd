"""A folder and archives of it are one list of names; nothing of an archive is written, and nothing in it is without end."""

import io
import os
import tarfile
import threading
import zipfile
from contextlib import suppress

import pytest
import torch
from PIL import Image

from dfkd_exp.data import listing as listing_module
from dfkd_exp.data.image_folder import ImageFolder
from dfkd_exp.data.listing import list_files
from dfkd_exp.errors import DfkdError
from tests.data.test_image_folder import fill, picture

ARCHIVES = ("zip", "tar", "tar.gz", "tar.xz")


def pack(folder, kind):
    path = folder.with_name(f"{folder.name}.{kind}")
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.relative_to(folder.parent))
    else:
        with tarfile.open(path, f"w:{kind.partition('.')[2]}") as archive:
            for file in files:
                archive.add(file, file.relative_to(folder.parent))
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pets"
    fill(root / "train", make=lambda label, index: picture(10 * label + index))
    fill(root / "test", count=3, make=lambda label, index: picture(100 + 10 * label + index))
    for junk in ("__MACOSX/train/cat/._00.png", "train/.ipynb_checkpoints/00.png", "train/cat/.DS_Store", "Thumbs.db"):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_bytes(b"junk")
    return root


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_holds_what_its_folder_holds_and_nothing_is_unpacked(folder, kind):
    path = pack(folder, kind)
    before = sorted(folder.parent.rglob("*"))
    expected, found = (ImageFolder(path=str(place), channels=1).load() for place in (folder, path))
    assert (found.classes, len(found.train), len(found.test)) == (["cat", "dog"], 20, 6)
    for part in ("train", "test"):
        assert torch.equal(getattr(found, part).images, getattr(expected, part).images)
        assert torch.equal(getattr(found, part).labels, getattr(expected, part).labels)
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize("kind", ARCHIVES)
def test_images_of_kinds_that_are_not_read_are_listed_apart_with_their_folders(folder, kind):
    for name in ("train/cat/1.heic", "train/emu/1.avif"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    expected, found = list_files(folder, "data.path"), list_files(pack(folder, kind), "data.path")
    assert expected.unread == ["train/cat/1.heic", "train/emu/1.avif"]
    assert found.unread == [f"pets/{name}" for name in expected.unread]
    assert "pets/train/emu" in found.folders
    assert not {*expected.unread} & {*expected.files, *expected.images}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_is_identified_by_what_it_holds(folder, kind):
    path = pack(folder, kind)
    first = ImageFolder(path=str(path)).fingerprint()
    moved = path.rename(path.with_name(f"other.{kind}"))
    assert ImageFolder(path=str(moved)).fingerprint() == first
    picture(99, size=(50, 40)).save(folder / "train" / "cat" / "00.png")
    assert ImageFolder(path=str(pack(folder, kind))).fingerprint() != first


@pytest.mark.parametrize("kind", ARCHIVES)
def test_many_threads_read_at_once(folder, kind):
    listing = list_files(pack(folder, kind), "data.path")
    expected = {name: (folder.parent / name).read_bytes() for name in listing.images}
    wrong = []

    def read():
        for name in listing.images * 5:
            with listing.open(name) as file:
                if file.read() != expected[name]:
                    wrong.append(name)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(expected) == 26
    assert not wrong


def test_names_that_lead_out_of_an_archive_and_links_are_left_out(tmp_path):
    with tarfile.open(tmp_path / "odd.tar", "w") as archive:
        for name in ("../out.png", "/abs/a.png", "c/../../b.png", "./c/d.png"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("c/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    found = list_files(tmp_path / "odd.tar", "data.path")
    assert found.images == ["abs/a.png", "c/d.png"]
    assert found.note == f"1 links in {tmp_path / 'odd.tar'} are left out"
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        archive.writestr("../out.png", b"abc")
        archive.writestr("c\\d.png", b"abc")
        link = zipfile.ZipInfo("c/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert list_files(tmp_path / "odd.zip", "data.path").images == ["c/d.png"]


def test_what_unpacks_without_end_is_refused_by_name(folder, monkeypatch):
    zipped, packed = pack(folder, "zip"), pack(folder, "tar.gz")
    monkeypatch.setattr(listing_module, "MOST_OF_A_FILE", 50)
    with pytest.raises(DfkdError, match=r"pets.zip.pets.train.cat.00.png .*it unpacks to more than 50 bytes"):
        ImageFolder(path=str(zipped)).load()
    monkeypatch.setattr(listing_module, "MOST_HELD", 1000)
    with pytest.raises(DfkdError, match=r"pets.tar.gz is compressed as a whole and larger .* uncompress it"):
        ImageFolder(path=str(packed)).load()


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_truncated_archive_is_one_line(folder, kind):
    path = pack(folder, kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DfkdError) as refused:
        ImageFolder(path=str(path)).load()
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_tar_that_ends_at_a_damaged_header_is_not_taken_for_a_part_of_itself(folder):
    """Python's reader stops there, and says nothing."""
    path = pack(folder, "tar")
    content = path.read_bytes()
    with tarfile.open(path) as archive:
        half = archive.getmembers()[4].offset
    path.write_bytes(content[:half])
    assert (
        "pets.tar has no mark at its end: if its 2 files are not all, fetch it again"
        in list_files(path, "data.path").note
    )
    for damaged in (content[: half + 100], content[:half] + b"\xff" + content[half + 1 :]):
        path.write_bytes(damaged)
        with pytest.raises(DfkdError, match=r"pets.tar is damaged or cut off after 2 files; fetch it again"):
            list_files(path, "data.path")


@pytest.mark.parametrize("kind", ARCHIVES)
def test_wherever_an_archive_is_damaged_it_is_refused_or_read(folder, kind):
    """The latter where the damage is in a name, or in a picture's pixels."""
    (folder / "labels.csv").write_text("file,label\n" + "".join(f"train/{n}/00.png,{n}\n" for n in ("cat", "dog")))
    path = pack(folder, kind)
    content = path.read_bytes()
    for place in range(0, len(content), len(content) // 24):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        for settings in ({}, {"labels": "pets/labels.csv"}):
            with suppress(DfkdError):
                ImageFolder(path=str(path), **settings).load()


@pytest.mark.parametrize("content", [b"", b"Rar!\x1a\x07\x00", b"7z\xbc\xaf\x27\x1c"])
def test_what_is_no_archive_that_can_be_read_is_refused(tmp_path, content):
    (tmp_path / "images.rar").write_bytes(content)
    with pytest.raises(DfkdError, match=r"data.path=.*images.rar is not a folder, and no archive .*; unpack it"):
        list_files(tmp_path / "images.rar", "data.path")


def test_an_encrypted_archive_says_so(folder, monkeypatch):
    path = pack(folder, "zip")
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag that says encrypted, in both headers
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            content[start + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(DfkdError, match=r"00.png is not a readable image .*encrypted"):
        ImageFolder(path=str(path)).load()


def test_links_to_folders_are_followed_but_not_in_circles(folder, tmp_path):
    (tmp_path / "linked").mkdir()
    os.symlink(folder / "train" / "cat", tmp_path / "linked" / "cat")
    os.symlink(folder / "train" / "dog", tmp_path / "linked" / "dog")
    os.symlink(tmp_path / "linked", folder / "train" / "cat" / "again")
    found = list_files(tmp_path / "linked", "data.path")
    assert len([name for name in found.images if name.count("/") == 1]) == 20
    with found.open("cat/00.png") as file:
        assert Image.open(file).size == (5, 4)
