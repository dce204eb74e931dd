"""What lies in a folder or an archive, as a list of names with the bytes behind each: an archive is read where it is, and nothing of it
is written anywhere."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from stat import S_ISLNK
from threading import Lock
from typing import BinaryIO

from dfkd_exp.errors import DfkdError
from dfkd_exp.files import open_regular
from dfkd_exp.harmless import in_brief

IMAGES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".bmp",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
    ".pgm",
    ".ppm",
    ".pbm",
    ".pnm",
}
"""Endings of image files."""
UNREAD = {
    ".heic", ".heif", ".hif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl", ".jxr", ".svg", ".psd", ".xcf", ".tga", ".exr", ".hdr", ".dcm",
    ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw",
}  # fmt: skip
"""Endings of image files of kinds that are not read."""
CONVERT = "convert them to PNG or JPEG"
"""What to do with these."""
TABLES = {".csv", ".tsv", ".txt"}
"""Endings of files that may say which image is of which class."""
JUNK = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__"}
"""Folders that systems put beside what is meant, in small letters; what begins with a dot is passed over too."""
MOST_OF_A_FILE = 2**28
"""Bytes of one file in an archive, unpacked: far more than the largest image that is decoded, and a bomb ends there."""
MOST_HELD = 2**32
"""Bytes of an archive that is compressed as a whole, unpacked: to find one file in it all before it are unpacked, so they are held."""
UNREADABLE = (
    OSError, EOFError, ValueError, RuntimeError, NotImplementedError, MemoryError, tarfile.TarError, zipfile.BadZipFile,
    lzma.LZMAError, zlib.error,
)  # fmt: skip
"""What Python's readers of archives raise for those that are damaged, encrypted or packed in ways they do not know."""


@dataclass(frozen=True)
class Listing:
    """Of what a message calls ``place``: its ``files``, by names in which "/" divides folders, each with a stamp that changes when the
    file does; its ``folders``, empty ones too; ``open``, which gives a file's bytes to any thread; and the images of kinds that are not
    read, ``unread``. Junk is left out."""

    place: str
    files: dict[str, str]
    folders: set[str]
    open: Callable[[str], BinaryIO] = field(repr=False)
    unread: list[str]
    note: str = ""

    def title(self, name: str) -> str:
        """What a message calls a file or folder."""
        return str(Path(self.place, name))

    @property
    def images(self) -> list[str]:
        """The files that have an image's ending, sorted."""
        return sorted(name for name in self.files if ending(name) in IMAGES)


def ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def counted(names: Iterable[str]) -> str:
    """How many files of which endings: ``12 .heic, 3 .avif``."""
    return ", ".join(f"{count:,} {kind}" for kind, count in Counter(map(ending, names)).most_common())


def list_files(path: Path, flag: str) -> Listing:
    """What is at ``path``, which a user said by ``flag``. Raises DfkdError if it is neither a folder nor an archive that can be read."""
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise DfkdError(f"{flag}={path} is not a folder or an archive of images: there is no such file; check the path")
    try:
        if zipfile.is_zipfile(path):
            return _of_zip(path)
        if tarfile.is_tarfile(path):
            return _of_tar(path)
    except DfkdError:
        raise
    except UNREADABLE as error:
        raise DfkdError(f"{flag}={path} cannot be read ({in_brief(error)}); fetch it again, or unpack it") from error
    raise DfkdError(
        f"{flag}={path} is not a folder, and no archive that can be read in place (.zip, .tar, .tar.gz, .tar.xz); unpack it"
    )


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def _of_folder(root: Path) -> Listing:
    files, folders, unread = {}, set(), []
    for name, entry in _walk(root):
        if entry.is_dir():
            folders.add(name)
        elif ending(name) in IMAGES | TABLES:
            try:
                about = entry.stat()
            except OSError as error:  # a link that leads nowhere
                raise DfkdError(f"{root / name} cannot be read ({error.strerror}); repair or remove it") from error
            files[name] = f"{about.st_size} {about.st_mtime_ns}"
        elif ending(name) in UNREAD:
            unread.append(name)
    return Listing(str(root), files, folders, lambda name: open_regular(root / name), unread)


def _walk(
    folder: Path, above: str = "", inside: tuple[tuple[int, int], ...] = ()
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Whatever lies below ``folder``, links followed; but not one that leads to a folder in which it lies."""
    about = folder.stat()
    here = about.st_dev, about.st_ino
    if here in inside:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DfkdError(f"{folder} cannot be read ({error.strerror}); repair or remove it") from error
    for entry in entries:
        if not _is_junk(entry.name):
            name = f"{above}{entry.name}"
            yield name, entry
            if entry.is_dir():
                yield from _walk(folder / entry.name, f"{name}/", (*inside, here))


def _sound(name: str) -> str | None:
    """A name in an archive as it is listed; None for junk, and for a way out of the archive."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return None if not parts or ".." in parts or any(map(_is_junk, parts)) else "/".join(parts)


def _with_parents(names: set[str]) -> set[str]:
    parents = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return (names | parents) - {"."}


def _of_zip(path: Path) -> Listing:
    archive, lock = zipfile.ZipFile(path), Lock()
    found: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    unread = []
    for info in archive.infolist():
        name = _sound(info.filename)
        if name and info.is_dir():
            folders.add(name)
        elif name and ending(name) in IMAGES | TABLES and not S_ISLNK(info.external_attr >> 16):
            found[name] = info
        elif name and ending(name) in UNREAD:
            unread.append(name)

    def open_file(name: str) -> BinaryIO:
        with lock, archive.open(found[name]) as file:
            return io.BytesIO(_bounded(file.read(MOST_OF_A_FILE + 1)))

    folders |= {str(PurePosixPath(name).parent) for name in (*found, *unread)}
    stamps = {name: f"{info.file_size} {info.CRC:08x}" for name, info in found.items()}
    return Listing(str(path), stamps, _with_parents(folders), open_file, unread)


def _of_tar(path: Path) -> Listing:
    with path.open("rb") as file:
        is_plain = _is_plain_tar(file)
    places: dict[str, tuple[int, int]] = {}
    held: dict[str, bytes] = {}
    stamps: dict[str, str] = {}
    folders: set[str] = set()
    unread = []
    num_links = 0
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            archive.members.clear()  # type: ignore[attr-defined]  # of a million files half a gigabyte
            if not is_plain and member.offset_data + member.size > MOST_HELD:
                raise DfkdError(
                    f"{path} is compressed as a whole and larger than the {MOST_HELD / 2**30:g} GiB that are held; uncompress it: a .tar "
                    "is read in place"
                )
            name = _sound(member.name)
            if name and member.isdir():
                folders.add(name)
            elif name and ending(name) in IMAGES | TABLES:
                if not member.isreg() or member.issparse():
                    num_links += 1
                    continue
                places[name] = member.offset_data, member.size
                stamps[name] = f"{member.size} {member.mtime} {member.chksum}"
                if not is_plain and (content := archive.extractfile(member)):
                    held[name] = content.read()
            elif name and ending(name) in UNREAD:
                unread.append(name)
        whole = _ends(archive, path, len(stamps))

    def open_file(name: str) -> BinaryIO:
        if not is_plain:
            return io.BytesIO(held[name])
        start, size = places[name]
        with path.open("rb") as file:
            file.seek(start)
            return io.BytesIO(_bounded(file.read(min(size, MOST_OF_A_FILE + 1))))

    folders |= {str(PurePosixPath(name).parent) for name in (*stamps, *unread)}
    notes = [f"{num_links:,} links in {path} are left out"] if num_links else []
    if not whole:
        notes.append(f"{path} has no mark at its end: if its {len(stamps):,} files are not all, fetch it again")
    return Listing(str(path), stamps, _with_parents(folders), open_file, unread, "; ".join(notes))


def _ends(archive: tarfile.TarFile, path: Path, num_files: int) -> bool:
    """Whether the archive, which was gone through, has the mark by which such end. At a header that is damaged or cut off Python's reader
    stops as if it were the end: DfkdError."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    end = archive.fileobj.read(tarfile.BLOCKSIZE)
    if 0 < len(end) < tarfile.BLOCKSIZE or end.strip(b"\0"):
        raise DfkdError(f"{path} is damaged or cut off after {num_files:,} files; fetch it again")
    return bool(end)


def _is_plain_tar(file: BinaryIO) -> bool:
    try:
        with tarfile.open(fileobj=file, mode="r:"):
            return True
    except tarfile.TarError:
        return False


def _bounded(content: bytes) -> bytes:
    if len(content) > MOST_OF_A_FILE:
        raise ValueError(f"it unpacks to more than {MOST_OF_A_FILE:,} bytes")
    return content
