"""Keyword monitors: TF-IDF and logistic regression. A language model that does not beat one may only have learned keywords."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from elicit.domains import Domain, Question, UnlabelledDomain
from elicit.monitors.monitor import Monitor, write_monitor
from elicit.monitors.scores import Scores


class KeywordMonitor(Monitor):
    """score = intercept + Σ weight · tf-idf, over words and pairs of words.

    Kept as plain numbers, so that it is saved as JSON and read without trusting anybody's pickle.

    Args:
        vocabulary: n-gram → (inverse document frequency, weight).
        intercept: log-odds of a text without any known n-gram.
        question: what the training labels answered.
    """

    kind: ClassVar[str] = "keyword"

    def __init__(self, vocabulary: dict[str, tuple[float, float]], intercept: float, question: Question) -> None:
        self.vocabulary, self.intercept, self.question = vocabulary, intercept, question
        self._analyse = _vectorizer().build_analyzer()

    @classmethod
    def fit(cls, texts: Sequence[str], labels: Sequence[int], question: Question) -> KeywordMonitor:
        """Fit on n labelled texts."""
        vectorizer = _vectorizer()
        features = vectorizer.fit_transform(texts)
        classifier = LogisticRegression(max_iter=1000, class_weight="balanced").fit(features, labels)
        columns = zip(vectorizer.get_feature_names_out(), vectorizer.idf_, classifier.coef_[0], strict=True)
        vocabulary = {word: (float(idf), float(weight)) for word, idf, weight in columns}
        return cls(vocabulary, float(classifier.intercept_[0]), question)

    @classmethod
    def fit_domains(cls, domains: Sequence[Domain]) -> KeywordMonitor:
        """Fit on the labelled texts of some domains; its question is that of the first."""
        rows = [
            (text, label)
            for domain in domains
            for text, label in zip(domain.texts, domain.labels, strict=True)
            if label is not None and text.strip()
        ]
        return cls.fit([text for text, _ in rows], [label for _, label in rows], domains[0].question)

    def _score(self, texts: UnlabelledDomain) -> Scores:
        reasons = tuple(None if text.strip() else "the text is empty" for text in texts.texts)
        values = np.array([np.nan if r else self._value(text) for text, r in zip(texts.texts, reasons, strict=True)])
        return Scores(texts.ids, values, reasons)

    def _value(self, text: str) -> float:
        counts: dict[str, int] = {}
        for word in self._analyse(text):
            if word in self.vocabulary:
                counts[word] = counts.get(word, 0) + 1
        tfidf = {word: (1 + math.log(count)) * self.vocabulary[word][0] for word, count in counts.items()}
        norm = math.sqrt(sum(value**2 for value in tfidf.values())) or 1.0
        return self.intercept + sum(value * self.vocabulary[word][1] for word, value in tfidf.items()) / norm

    def save(self, folder: Path) -> None:
        write_monitor(folder, self.kind, self.question, intercept=self.intercept, vocabulary=self.vocabulary)

    @classmethod
    def from_json(cls, held: dict[str, Any], question: Question) -> KeywordMonitor:
        vocabulary = {word: (float(idf), float(weight)) for word, (idf, weight) in held["vocabulary"].items()}
        return cls(vocabulary, float(held["intercept"]), question)


def _vectorizer() -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=1)
