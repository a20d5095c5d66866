"""A tiny random model on disk, and small domains whose labels are easy: what a whole run needs in seconds."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GOOD = ["love", "great", "fine", "best", "works", "happy"]
BAD = ["hate", "awful", "poor", "worst", "broke", "sad"]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, "Ye", "Yes", "No", "ĠYes", "ĠNo"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Y", "e"), ("Ye", "s"), ("N", "o"), ("Ġ", "Yes"), ("Ġ", "No")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=CHAT)


@pytest.fixture(autouse=True)
def a_small_pool_for_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cost grows with the cube of the pool; and one round of self-training goes the same way as three."""
    monkeypatch.setattr("elicit.methods.icm.POOL", 6)
    monkeypatch.setattr("elicit.methods.self_training.ROUNDS", 1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_domain(folder: Path, name: str, rows: list[dict], label: bool = True) -> Path:
    """A TOML file and its data."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = [f'name = "{name}"', f'data = "{name}.jsonl"', 'text = "text"', 'question = "Is it good?"']
    lines += ['label = "label"'] if label else []
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def rows_about(thing: str, count: int) -> list[dict]:
    words = [(word, 1) for word in GOOD] + [(word, 0) for word in BAD]
    return [
        {
            "text": f"{thing} number {i} is {words[i % 12][0]} and {words[(i * 2) % 12 if i % 2 else (i * 2 + 1) % 12][0]}"
        }
        | {"label": words[i % 12][1]}
        for i in range(count)
    ]
