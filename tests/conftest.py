"""Tokenizers and language models that are built on the spot: tiny, random, the same every time, and fetched from nowhere."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: threads of several workers on the same cores wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# One token each, with a space before them or not; everything else is a byte.
WORDS = (("Y", "e", "s"), ("N", "o"))

TINY: dict[str, Any] = {
    "vocab_size": 288,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 1024,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
GPT2 = {"vocab_size": 288, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 1024} | {
    "bos_token_id": None,
    "eos_token_id": None,
}
OPT = {key: value for key, value in TINY.items() if key not in ("intermediate_size", "num_key_value_heads", "head_dim")}
OPT |= {"ffn_dim": 48, "word_embed_proj_dim": 32}
# (model type, settings): all that differs between architectures in how they come to their logits.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", TINY | {"tie_word_embeddings": True}),
    "llama-untied": ("llama", TINY | {"tie_word_embeddings": False}),
    "qwen2": ("qwen2", TINY),
    "qwen2-window": (
        "qwen2",
        TINY | {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", TINY),
    "gemma2": (
        "gemma2",
        TINY | {"sliding_window": 16, "final_logit_softcapping": 2.0, "attn_logit_softcapping": 5.0},
    ),
    "gemma3": (
        "gemma3_text",
        TINY | {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "mistral-window": ("mistral", TINY | {"sliding_window": 16}),
    "gpt-neox": ("gpt_neox", TINY),
    "gpt2": ("gpt2", GPT2),
    "phi": ("phi", TINY),
    "opt": ("opt", OPT),
    "opt-projected": ("opt", OPT | {"word_embed_proj_dim": 16}),
    "opt-post-norm": ("opt", OPT | {"do_layer_norm_before": False}),
    "cohere": ("cohere", TINY | {"logit_scale": 0.3}),
    "granite": ("granite", TINY | {"logits_scaling": 3.0}),
    "bloom": ("bloom", {"vocab_size": 288, "hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "mpt": ("mpt", {"vocab_size": 288, "d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 1024}),
    "mamba": ("mamba", {"vocab_size": 288, "hidden_size": 32, "num_hidden_layers": 3, "state_size": 4}),
}


def build_tokenizer(template: str | None = CHATML, adds_bos: bool = False, special: bool = True) -> Any:
    """A byte-level tokenizer in which Yes and No are tokens.

    Args:
        template: chat template, or None.
        adds_bos: whether every encoded text begins with <|endoftext|>.
        special: whether the chat tokens are special ones; some published tokenizers forget to say so.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    space, merges = "Ġ", []
    for first, *rest in WORDS:
        for letter in rest:
            merges.append((first, letter))
            first += letter
        merges.append((space, first))
    vocabulary = {token: i for i, token in enumerate([*alphabet, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(SPECIAL[0], special=True)])
    tokenizer.add_tokens([AddedToken(token, special=special, normalized=False) for token in SPECIAL[1:]])
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], tokenizer.token_to_id(SPECIAL[0]))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[0], chat_template=template
    )


def build_sentencepiece_tokenizer(template: str | None, legacy: bool) -> Any:
    """A tokenizer as those of Llama 2 and Mistral, which puts a space before whatever it is given.

    Args:
        template: chat template, or None.
        legacy: put it after each special token as well, as older conversions do.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    merges = [("Y", "e"), ("Ye", "s"), ("N", "o"), ("▁", "Yes"), ("▁", "No")]
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127))]
    vocabulary = {token: i for i, token in enumerate([*tokens, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=template
    )


def build_model(architecture: str, seed: int = 0, **settings: Any) -> Any:
    """A random model in float32 whose biases and norms are random as well, so that leaving one out shows."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, config = ARCHITECTURES[architecture]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**config, **settings}), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., Any]:
    """Builds a tokenizer; see `build_tokenizer`."""
    return build_tokenizer


@pytest.fixture(scope="session")
def make_sentencepiece_tokenizer() -> Callable[..., Any]:
    """Builds a tokenizer; see `build_sentencepiece_tokenizer`."""
    return build_sentencepiece_tokenizer


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    """Builds a model that is the caller's own; see `build_model`."""
    built: dict[str, Any] = {}

    def make(architecture: str = "llama", seed: int = 0, **settings: Any) -> Any:
        key = f"{architecture} {seed} {sorted(settings.items())}"
        if key not in built:
            built[key] = build_model(architecture, seed, **settings)
        return copy.deepcopy(built[key])

    return make


@pytest.fixture(scope="session")
def chat_template() -> str:
    """The template of `make_tokenizer()`: ChatML, as in SmolLM2 and Qwen."""
    return CHATML


@pytest.fixture(autouse=True)
def own_readings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings of tests are cached apart from the user's, and each test begins with none."""
    folder = tmp_path_factory.mktemp("readings")
    monkeypatch.setattr("elicit.language_models.cache.cache_dir", lambda: folder)
    monkeypatch.setattr("elicit.language_models.states.cache_dir", lambda: folder)
