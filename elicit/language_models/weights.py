"""Weights in memory, shared by all monitors of one language model, with the LoRA adapters that came to them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from elicit.errors import ModelError
from elicit.language_models.engine import Meter

ADAPTER_CONFIG = "adapter_config.json"
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # of so many bytes
SAMPLE = 512


class Weights:
    """Weights that several `LocalModel`s share, with their LoRA adapters; one adapter, or none, is active at a time.

    Attributes:
        origin: name, dtype and device with which they can be loaded again, None for those that were made in memory.
    """

    def __init__(self, model: Any, tokenizer: Any, origin: tuple[str, str, str] | None = None) -> None:
        self.model, self.tokenizer, self.origin = model, tokenizer, origin
        self.peft: Any = None
        self.meter = Meter()
        self._active: str | None = None
        self._fingerprint: str | None = None

    def fingerprint(self) -> str:
        """Hash of dtype, configuration and weights as they came, adapters apart; computed once for all who share them."""
        if self._fingerprint is None:
            config = self.model.config.to_dict()
            for where in ("_name_or_path", "transformers_version"):
                config.pop(where, None)
            digest = hashlib.sha256(str(self.model.dtype).encode())
            digest.update(json.dumps(config, sort_keys=True, default=str).encode())
            for name, parameter in self.model.named_parameters():
                if "lora_" not in name:
                    name = name.replace(".base_layer", "")
                    digest.update(f"{name} {tuple(parameter.shape)} {_checksum(parameter)}".encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def activate(self, adapter: str | None) -> None:
        if adapter == self._active:
            return
        if adapter is None:
            self.peft.base_model.disable_adapter_layers()
        else:
            self.peft.base_model.enable_adapter_layers()
            self.peft.set_adapter(adapter)
        self._active = adapter

    def forget_active(self) -> None:
        """After adapters came or went, PEFT's idea of the active one is not relied upon."""
        self._active = "unknown"

    def load(self, folder: Path) -> str:
        """Load a PEFT adapter from disk and give it a name by its content."""
        from peft import PeftModel

        name = f"adapter_{hash_of_files(folder)[:16]}"
        if self.peft is not None and name in self.peft.peft_config:
            return name
        # Adapters compute in the model's own dtype here: float32 adapters would cost a cast per layer and buy nothing.
        options = {"autocast_adapter_dtype": False}
        try:
            if self.peft is None:
                self.peft = PeftModel.from_pretrained(self.model, str(folder), adapter_name=name, **options)
            else:
                self.peft.load_adapter(str(folder), adapter_name=name, **options)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelError(f"{folder} is no adapter for this model: {str(error).splitlines()[0]}") from error
        self._cast(name)
        self.peft.eval()
        self.forget_active()
        return name

    def _cast(self, adapter: str) -> None:
        """Bring an adapter to the model's dtype: the adapter alone, since buffers such as rotary frequencies stay in float32."""
        for name, parameter in self.peft.named_parameters():
            if adapter in name.split("."):
                parameter.data = parameter.data.to(self.model.dtype)


def _checksum(parameter: torch.Tensor) -> tuple[int, bytes]:
    """The sum of all bit patterns of a parameter, which is exact on every device, and some of its values, which know their places.

    A hash of all bytes would have to bring them to the CPU first.
    """
    flat = parameter.detach().flatten()
    patterns = flat.view(INTEGERS[flat.element_size()])
    some = patterns[:: max(1, patterns.numel() // SAMPLE)][:SAMPLE]
    return int(patterns.sum(dtype=torch.int64)), some.cpu().numpy().tobytes()


def hash_of_files(folder: Path) -> str:
    """Hash of an adapter's configuration and weights, but for the place where its model lay."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("adapter_*")):
        content = path.read_bytes()
        if path.name == ADAPTER_CONFIG:
            content = json.dumps(json.loads(content) | {"base_model_name_or_path": None}, sort_keys=True).encode()
        digest.update(path.name.encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()


def sort_adapter_config(folder: Path) -> None:
    """PEFT writes sets in the order in which Python happens to hold them; sorted, the same training gives the same file."""
    path = folder / ADAPTER_CONFIG
    held = json.loads(path.read_text(encoding="utf-8"))
    for key, value in held.items():
        if key in ("target_modules", "exclude_modules", "modules_to_save") and isinstance(value, list):
            held[key] = sorted(value)
    path.write_text(json.dumps(held, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def linear_names(layers: torch.nn.ModuleList) -> set[str]:
    """What the linear modules within a layer are called, also where a LoRA adapter is wrapped around them."""
    return {
        name.removesuffix(".base_layer").rsplit(".", 1)[-1]
        for name, module in layers[0].named_modules()
        if (isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D") and ".lora_" not in name
    }
