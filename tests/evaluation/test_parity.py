"""The comparison of a served model with the one that is here: figures by hand, and words that say what differs."""

import numpy as np
import pytest

import elicit.cli
from elicit.domains import Question, Row, make_domain
from elicit.errors import ModelError
from elicit.evaluation.parity import Parity, compare
from elicit.language_models.cache import ReadingCache
from elicit.language_models.endpoint import EndpointModel
from elicit.language_models.local import LocalModel
from elicit.language_models.weights import Weights
from elicit.monitors import VerdictMonitor
from tests.language_models.servers import Proxy, Toy


def found(served: list[float], local: list[float], **others) -> Parity:
    settings = {"reasons": (), "tokens": None, "beginning": None, "template": None} | others
    return Parity("d", np.array(served), np.array(local), **settings)


def test_figures_are_those_of_the_texts_that_both_scored() -> None:
    nan = float("nan")
    parity = found([1.0, 2.05, 3.0, nan, 5.0], [1.05, 2.0, 2.98, 4.0, nan], reasons=("refused", "refused", "empty"))
    assert parity.difference == pytest.approx([-0.05, 0.05, 0.02])
    assert parity.rank_correlation == pytest.approx(1.0)
    assert parity.alike
    assert parity.plain_words() == [
        "3 of 5 texts of d were scored both ways",
        "unscored: refused",
        "unscored: empty",
        "largest difference of log-odds: 0.05 (served − local: +0.0067 on average)",
        "rank correlation (Spearman): 1.0000",
        "tokens: the server does not tell how it tokenises",
        "the two are the same model, as far as scores go",
    ]


@pytest.mark.parametrize(
    ("parity", "verdict"),
    [
        (found([3.0, 4.0, 5.0], [1.0, 2.0, 3.0]), "rank texts alike, at other values"),
        # 1 − 6·2 / (3·8) = 0.5
        (found([1.0, 3.0, 2.0], [1.0, 2.0, 3.0]), "the two differ: other weights"),
        (found([1.0, 3.0, 2.0], [1.0, 2.0, 3.0], tokens=(True, False, True)), "and so do their tokens"),
        (found([float("nan")] * 3, [1.0, 2.0, 3.0]), "too few texts were scored both ways"),
        # Three that agree, of eight that were asked for.
        (
            found([1.0, 2.0, 3.0, *[float("nan")] * 5], list(map(float, range(1, 9)))),
            "too few texts were scored both ways",
        ),
    ],
)
def test_the_last_line_says_what_it_comes_to(parity: Parity, verdict: str) -> None:
    assert verdict in parity.plain_words()[-1]
    assert not parity.alike


def test_tokens_and_template_are_reported() -> None:
    words = found([1.0], [1.0], tokens=(True, False), beginning=(1,), template=False).plain_words()
    assert "tokens: 1 of 2 texts become other tokens at the server" in words
    assert any(line.startswith("beginning: the server puts the tokens [1] before a plain text") for line in words)
    assert any(line.startswith("chat template: another at the server") for line in words)


def test_neither_side_answers_from_a_cache(monkeypatch, make_model, make_tokenizer, tmp_path) -> None:
    make_tokenizer().save_pretrained(tmp_path / "tokenizer")
    toy = Toy(make_tokenizer())
    cache = ReadingCache(tmp_path / "here.sqlite")
    here = VerdictMonitor(LocalModel("here", Weights(make_model(), make_tokenizer()), cache=cache))
    rows = [Row(str(i), f"text number {i}") for i in range(12)]
    texts = make_domain("few", Question("Is it good?"), rows)
    monkeypatch.setattr("elicit.evaluation.parity.load_monitor", lambda *_, **__: here)
    monkeypatch.setattr("elicit.evaluation.parity.load_domain", lambda _: texts)
    proxy = Proxy(toy)
    try:
        name = f"endpoint:{proxy.url}#toy,tokenizer={tmp_path / 'tokenizer'}"
        EndpointModel.load(name).log_odds(texts.question, texts.texts)  # into the user's cache
        before = compare(name, "here", "few")
        toy.shift = 1.0  # as other weights under the same name would
        after = compare(name, "here", "few")
    finally:
        proxy.close()
    assert after.served == pytest.approx(before.served + 1)
    assert after.local == pytest.approx(before.local)
    assert not cache.path.is_file()


def test_two_served_models_and_two_local_ones_are_refused(monkeypatch) -> None:
    monkeypatch.setattr("elicit.evaluation.parity.load_domain", lambda name: pytest.fail("before anything is read"))
    with pytest.raises(ModelError, match="is no served model"):
        compare("smollm2-135m-instruct", "smollm2-135m-instruct", "vader/amazon")
    with pytest.raises(ModelError, match="is served too"):
        compare("endpoint:http://127.0.0.1:1/v1", "endpoint:http://127.0.0.1:1/v1", "vader/amazon")


def test_all_methods_of_a_served_model_are_those_that_need_verdicts_alone() -> None:
    served = elicit.cli._all_methods("endpoint:http://127.0.0.1:1/v1")
    assert {"untrained", "random-shots", "bootstrap", "icm", "consistency", "keyword-target"} <= set(served)
    assert set(elicit.cli._all_methods("m")) - set(served) == {
        *("ccs", "crc", "vinc", "kmeans", "pca", "state-consistency", "self-training", "transfer"),
        "thinking-self-training",
        *("probe-source", "mean-difference-source", "probe-target", "verdict-target"),
    }
