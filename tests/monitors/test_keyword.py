"""The keyword monitor is scikit-learn's pipeline, written out so that it can be saved as plain numbers."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from elicit.domains import Question
from elicit.monitors import KeywordMonitor, load_monitor

TEXTS = ["I love this, love it", "good good phone", "bad phone", "awful, I hate it", "works well", "broke at once"]
LABELS = [1, 1, 0, 0, 1, 0]
NEW = ["love the phone", "hate hate hate", "nothing known here zzz", "Good GOOD good, bad"]


@pytest.fixture
def monitor() -> KeywordMonitor:
    return KeywordMonitor.fit(TEXTS, LABELS, Question("Is it positive?"))


def test_scores_equal_scikit_learns_decision_function(monitor: KeywordMonitor) -> None:
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(max_iter=1000, class_weight="balanced"),
    ).fit(TEXTS, LABELS)
    np.testing.assert_allclose(monitor.score(NEW).values, pipeline.decision_function(NEW), atol=1e-12)


def test_a_text_of_unknown_words_scores_the_intercept_and_an_empty_one_is_unscored(monitor: KeywordMonitor) -> None:
    scores = monitor.score(["zzz qqq", "  "])
    assert scores.values[0] == monitor.intercept
    assert np.isnan(scores.values[1])
    assert scores.reasons == (None, "the text is empty")


def test_saved_and_loaded_it_scores_the_same_bits(monitor: KeywordMonitor, tmp_path) -> None:
    monitor.save(tmp_path)
    loaded = load_monitor(tmp_path)
    assert loaded.question == monitor.question
    assert loaded.score(NEW).values.tobytes() == monitor.score(NEW).values.tobytes()


def test_one_string_in_place_of_a_list_is_refused(monitor: KeywordMonitor) -> None:
    with pytest.raises(TypeError, match="list of texts"):
        monitor.score("love")  # type: ignore[arg-type]
