"""How far two domains are from each other, by their words and by a model's hidden states, and whether that foretells transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.covariance import LedoitWolf
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from elicit.domains import Domain
from elicit.evaluation import Resampled
from elicit.evaluation.bootstrap import REPLICATES, undefined
from elicit.language_models.local import LocalModel

DISTANCES = {"keyword_distance": "keyword distance", "state_distance": "hidden-state distance"}


def domain_distances(model: LocalModel, domains: Mapping[str, Domain], size: int) -> list[dict[str, Any]]:
    """Both distances of every ordered pair of domains, from so many training texts of each, without their labels."""
    texts = {name: domain.train.sample(size).unlabelled() for name, domain in domains.items()}
    layer = model.layers // 2
    states = {}
    for name, part in texts.items():
        read = model.states(part.question, part.texts, [layer], f"hidden states {name}")
        states[name] = read.values[:, 0, 0].float().numpy()[read.usable]
    return [
        {
            "source": source,
            "target": target,
            "keyword_distance": keyword_distance(texts[source].texts, texts[target].texts),
            "state_distance": state_distance(states[source], states[target]),
            "layer": layer,
        }
        for source in domains
        for target in domains
        if source != target
    ]


def keyword_distance(one: Sequence[str], other: Sequence[str]) -> float:
    """Proxy A-distance, 2 (1 − 2 error), of a classifier by words that tells the two apart in five folds (Ben-David et al., 2007).

    0 where it does no better than chance, 2 where it never errs.
    """
    features = TfidfVectorizer(sublinear_tf=True).fit_transform([*one, *other])
    which = np.array([0] * len(one) + [1] * len(other))
    right = cross_val_score(
        LogisticRegression(class_weight="balanced"), features, which, cv=5, scoring="balanced_accuracy"
    )
    return round(max(0.0, 2 * (1 - 2 * (1 - float(right.mean())))), 6)


def state_distance(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """Distance between the means of (n, d) and (m, d) states, in a space in which both have unit covariance about their means.

    The covariance within the two is shrunk (Ledoit & Wolf, 2004), since there are fewer texts than dimensions.
    """
    gap = one.mean(0) - other.mean(0)
    within = LedoitWolf(assume_centered=True).fit(np.concatenate([one - one.mean(0), other - other.mean(0)]))
    return round(float(np.sqrt(gap @ within.precision_ @ gap)), 6)


def rank_correlation(
    pairs: Sequence[Mapping[str, Any]],
    key: str,
    aurocs: Mapping[tuple[str, str], Resampled],
    domains: Sequence[str],
    seed: int = 0,
) -> dict[str, Any]:
    """Spearman correlation between a distance and AUROC below that of the target's own labels, over ordered pairs of domains.

    Pairs that share a domain are not independent, so its interval draws domains, with all their pairs, besides texts and seeds.
    """
    distance = {(pair["source"], pair["target"]): pair[key] for pair in pairs}
    names = list(distance)

    def short(pair: tuple[str, str], draw: int | None) -> float:
        mine, own = aurocs[pair], aurocs[pair[1], pair[1]]
        return mine.value - own.value if draw is None else float(mine.replicates[draw] - own.replicates[draw])

    def correlation(chosen: Sequence[tuple[str, str]], draw: int | None) -> float:
        x, y = [distance[pair] for pair in chosen], [short(pair, draw) for pair in chosen]
        return float(spearmanr(x, y).statistic) if len(set(x)) > 1 and len(set(y)) > 1 else float("nan")

    if len(domains) < 3:
        return undefined("two domains are too few to rank")
    rng = np.random.default_rng(seed)
    drawn = []
    for draw in range(REPLICATES):
        count = dict.fromkeys(domains, 0)
        for at in rng.integers(0, len(domains), len(domains)):
            count[domains[at]] += 1
        chosen = [pair for pair in names for _ in range(count[pair[0]] * count[pair[1]])]
        drawn.append(correlation(chosen, draw) if chosen else float("nan"))
    entry = Resampled(correlation(names, None), np.array(drawn)).to_json()
    entry.pop("warning", None)  # a draw of one domain alone has no pairs: that says nothing about the classes
    return entry
