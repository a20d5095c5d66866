"""A toy domain, a small model, and few examples to train it on."""

import pytest

from elicit.domains import Domain, Question, Row, make_domain
from elicit.language_models.local import LocalModel
from elicit.monitors import VerdictMonitor
from elicit.training import TrainingConfig
from elicit.training.examples import Heads, mixture, verdict_examples

CONFIG = TrainingConfig(texts=48, epochs=2.0, batch_size=8, learning_rate=1e-2, rank=4)


def domain(name: str, count: int = 64, question: str = "Is it good?") -> Domain:
    words = ("great fun", "dull mess")
    rows = (Row(str(i), f"{name} {i} was a {words[i % 2]}" + " indeed" * (i % 4), 1 - i % 2) for i in range(count))
    return make_domain(name, Question(question), rows)


def examples_of(model, source: Domain, texts: int, heads: Heads | None = None, **options):
    chosen = mixture([source], texts, 1.0)[0]
    return verdict_examples(model, chosen, Heads() if heads is None else heads, 512, **options)


@pytest.fixture
def base(make_model, make_tokenizer) -> VerdictMonitor:
    return VerdictMonitor(LocalModel.from_transformers(make_model("llama"), make_tokenizer()))


def numbered(examples):
    return [{**example, "number": i} for i, example in enumerate(examples)]
