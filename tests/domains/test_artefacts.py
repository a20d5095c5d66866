"""Packaged artefacts: what pip delivers is verified, kept, and read without unpacking anything by its stored name."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from elicit.domains import artefacts
from elicit.domains.artefacts import Artefact, cache_dir, extract_member, fetch, list_members, read_member, sha256_of
from elicit.errors import ArtefactError

# The smallest artefact of the catalogue: 30 kB.
SMALL = Artefact("bastioncorpus==0.6.0", "96d7268cfafc2be0908382b61af8b67dec19058e2877657b217e68be0552a00a")
SDIST = Artefact(
    "vaderSentiment==3.3.2", "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9", sdist=True
)
MEMBER = "bastioncorpus/corpus/injections.jsonl"
NESTED = ("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz", "hutto_ICWSM_2014/_README_.txt")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ELICIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("pip must not run")

    monkeypatch.setattr(artefacts.subprocess, "run", refuse)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"INDEX_URL": "http://127.0.0.1:9/simple", "EXTRA_INDEX_URL": "", "FIND_LINKS": "", "RETRIES": "0"}
    for key, value in {**settings, "NO_CACHE_DIR": "1", "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{key}", value)


def test_fetched_once_and_then_read_from_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch(SMALL)
    assert path.parent == cache / "artefacts" / SMALL.sha256
    assert sha256_of(path) == SMALL.sha256
    assert read_member(path, MEMBER).startswith(b"{")
    assert MEMBER in list_members(path)
    assert "bastioncorpus" not in sys.modules
    # Nothing else is left: no half-done download, no requirements file.
    assert sorted(p.name for p in path.parent.parent.iterdir()) == sorted([SMALL.sha256, f"{SMALL.sha256}.lock"])
    monkeypatch.setattr(artefacts.subprocess, "run", None)
    assert fetch(SMALL) == path


def test_source_distribution_and_the_archive_inside_it(cache: Path) -> None:
    path = fetch(SDIST)
    assert path.name.endswith(".tar.gz")
    assert b"VADER" in read_member(path, *NESTED)


def test_corrupt_archive_is_fetched_again_with_one_warning(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = fetch(SMALL)
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    with caplog.at_level(logging.WARNING):
        again = fetch(SMALL)
    assert again.read_bytes() == content
    assert [record.message.split(":")[0] for record in caplog.records] == [SMALL.requirement]
    assert "corrupt" in caplog.text


def test_two_processes_at_once(cache: Path) -> None:
    code = (
        "import logging; logging.basicConfig(level='INFO')\n"
        "from elicit.domains.artefacts import Artefact, fetch\n"
        f"print(fetch({SMALL!r}))"
    )
    repository = str(Path(artefacts.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": repository}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=-1, stderr=-1, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    # The second process waits for the first one, and then finds the archive.
    assert sum(errors.count("fetching bastioncorpus") for _, errors in outputs) == 1


@pytest.mark.usefixtures("cache", "offline")
def test_offline_names_the_requirement_and_the_way_out() -> None:
    with pytest.raises(ArtefactError) as raised:
        fetch(SMALL)
    message = str(raised.value)
    for part in (SMALL.requirement, "local folder", "TOML file", "hub"):
        assert part in message


def test_another_file_than_the_hash_promises(cache: Path) -> None:
    with pytest.raises(ArtefactError, match=r"bastioncorpus==0\.6\.0"):
        fetch(Artefact(SMALL.requirement, "0" * 64))
    assert not list(cache.rglob("*.whl"))


@pytest.mark.usefixtures("cache", "no_pip")
def test_environment_without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefacts.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArtefactError, match=r"has no pip.*ensurepip"):
        fetch(SMALL)


@pytest.mark.usefixtures("no_pip")
def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("ELICIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(ArtefactError, match="ELICIT_CACHE"):
        fetch(SMALL)


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELICIT_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_dir() == Path("/a")
    monkeypatch.setenv("ELICIT_CACHE", "")
    assert cache_dir() == Path("/b/elicit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "elicit"


@pytest.mark.parametrize(
    ("requirement", "sha256"),
    [
        ("name", "0" * 64),
        ("name>=1", "0" * 64),
        ("name==1 --no-deps x", "0" * 64),
        ("name==1", "0"),
        ("-r x==1", "0" * 64),
    ],
)
def test_requirement_and_hash_are_pinned(requirement: str, sha256: str) -> None:
    with pytest.raises(ValueError, match=r"name==version|sha256"):
        Artefact(requirement, sha256)


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("make", [_zip, _tar])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil", "a/", ""])
def test_member_that_leaves_the_folder_is_refused(tmp_path: Path, make: object, name: str) -> None:
    assert callable(make)
    archive = make(tmp_path / "archive", {name: b"evil"} if name else {"other": b""})
    inside = tmp_path / "inside"
    for read in (lambda: read_member(archive, name), lambda: extract_member(archive, name, inside)):
        with pytest.raises(ArtefactError, match="refused"):
            read()
    assert not inside.exists()
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_link_in_a_tar_is_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "archive.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/hostname"
        archive.addfile(info)
    with pytest.raises(ArtefactError, match="link"):
        read_member(path, "link")
    with pytest.raises(ArtefactError, match="link"):
        extract_member(path, "link", tmp_path / "inside")
    assert list_members(path) == []


def test_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/hostname")
    with pytest.raises(ArtefactError, match="link"):
        read_member(path, "link")
    assert list_members(path) == []


@pytest.mark.parametrize("make", [_zip, _tar])
def test_extracted_under_its_last_name(tmp_path: Path, make: object) -> None:
    assert callable(make)
    content = bytes(range(256)) * 10_000
    archive = make(tmp_path / "archive", {"deep/model.gguf": content, "other": b""})
    written = extract_member(archive, "deep/model.gguf", tmp_path / "to")
    assert written == tmp_path / "to" / "model.gguf"
    assert written.read_bytes() == content
    assert list((tmp_path / "to").iterdir()) == [written]


def test_damaged_member_leaves_no_file_behind(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "archive", {"member": os.urandom(50_000)})
    content = bytearray(archive.read_bytes())
    content[20_000] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(ArtefactError, match="no readable"):
        extract_member(archive, "member", tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_neither_zip_nor_tar(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    for content in (b"", b"garbage" * 500, _tar(tmp_path / "good", {"a": b"b" * 10_000}).read_bytes()[:60]):
        path.write_bytes(content)
        with pytest.raises(ArtefactError, match="no readable"):
            read_member(path, "member")


@pytest.mark.parametrize("make", [_zip, _tar])
def test_member_that_is_not_there(tmp_path: Path, make: object) -> None:
    assert callable(make)
    with pytest.raises(ArtefactError, match="has no member 'b'"):
        read_member(make(tmp_path / "archive", {"a": b""}), "b")
