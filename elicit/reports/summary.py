"""A run in plain words: short sentences that say no more than the intervals allow.

"Better" and "worse" are said only where the run's own paired comparison with transfer says so. Where there is no paired
comparison (keyword baselines against other methods), the sentences say whether the intervals overlap and leave it there.
"""

from __future__ import annotations

from collections.abc import Iterable

from elicit.methods.alarms import LOW_MASS
from elicit.reports.rows import Measure, ReportRow, ReportTarget, Results, read_targets


def plain_words(results: Results) -> list[str]:
    """Sentences about a whole run: first across targets, then one target after another."""
    sentences = overview(results)
    for target in read_targets(results):
        sentences += [f"{target.name}: {sentence}" for sentence in target_words(target)]
    return sentences


def overview(results: Results) -> list[str]:
    """What held across targets, counted, method by method. Empty for fewer than two labelled targets."""
    targets = [target for target in read_targets(results) if target.labelled]
    if len(targets) < 2:
        return []
    rows = [row for target in targets for row in target.rows]
    sentences = []
    # The untrained row holds the comparison with transfer, so the readings are turned round.
    floors = [row.reading for target in targets if (row := target.row("untrained")) is not None and row.reading]
    if floors:
        counts = [
            (floors.count("worse"), "better than the untrained model on {}"),
            (floors.count("no clear difference"), "no clear difference on {}"),
            (floors.count("better"), "worse than the untrained model on {}"),
        ]
        sentences.append(_counted("transfer", counts, len(targets)))
    # Where nothing was trained on sources, the untrained model is what there was before.
    name, named = ("versus_transfer", "transfer")
    if not any(row.method == "transfer" and not row.absent for row in rows):
        name, named = ("versus_untrained", "the untrained model")
    for method in dict.fromkeys(row.method for row in rows if row.label_free):
        read = [row.reading_of(name) for row in rows if row.method == method]
        counts = [
            (read.count("better"), f"better than {named} on {{}}"),
            (read.count("no clear difference"), f"no clear difference from {named} on {{}}"),
            (read.count("worse"), f"worse than {named} on {{}}"),
            (read.count(None), "not compared on {}"),
        ]
        sentences.append(_counted(method, counts, len(targets)))
    for keyword in dict.fromkeys(row.method for row in rows if row.keyword):
        unbeaten = [target.name for target in targets if not _beaten(target, keyword)]
        if unbeaten:
            sentences.append(f"No label-free method is clearly above {keyword} on: {_listed(unbeaten)}.")
    return sentences


def _beaten(target: ReportTarget, keyword: str) -> bool:
    """Whether some label-free method stands above a keyword baseline with an interval of its own."""
    bar = target.row(keyword)
    measures = [row.measure("auroc") for row in target.rows if row.label_free]
    if bar is None or bar.measure("auroc").value is None or all(measure.value is None for measure in measures):
        return True  # there is nothing to say
    level = bar.measure("auroc")
    return any((held.value or 0.0) > (level.value or 0.0) and not overlap(held, level) for held in measures)


def _counted(method: str, counts: Iterable[tuple[int, str]], targets: int) -> str:
    said = ", ".join(words.format(count) for count, words in counts if count)
    return f"{method}: {said} of {targets} labelled targets."


def target_words(target: ReportTarget) -> list[str]:
    """Sentences about one target, which they do not name."""
    if not target.rows:
        return ["No method has been measured yet."]
    sentences = [*_not_run(target.rows), *_failures(target.rows)]
    sentences = [*_mass(target.rows), *sentences]
    if not target.labelled:
        sentences.append("Without labels no agreement is measured: there are scores, but no figures about them.")
        return sentences + _unscored(target.rows)
    return [
        *_transfer(target),
        *_gap(target),
        *_readings(target, "versus_transfer", "transfer"),
        *_keywords(target),
        *_undefined(target),
        *_unscored(target.rows),
        *sentences,
    ]


def _transfer(target: ReportTarget) -> list[str]:
    transfer = target.row("transfer")
    if transfer is None or transfer.skipped:
        return [
            "There is no transfer monitor, so nothing is compared with transfer.",
            *_readings(target, "versus_untrained", "the untrained model"),
        ]
    if transfer.measure("auroc").value is None:
        return []  # said among the undefined figures
    sentences = []
    for method, named in (
        ("untrained", "the untrained model"),
        ("keyword-source", "the keyword baseline trained on the same source labels"),
        ("keyword-target", "the keyword baseline trained on the target's labels"),
    ):
        other = target.row(method)
        if other is None or other.measure("auroc").value is None:
            continue
        figures = f"AUROC {figure(transfer.measure('auroc'))} against {figure(other.measure('auroc'))}"
        sentences.append(f"transfer {_compare(transfer, other)} {named}: {figures}.")
    return sentences or [f"transfer reaches AUROC {figure(transfer.measure('auroc'))}."]


def _compare(transfer: ReportRow, other: ReportRow) -> str:
    """How transfer stands to another row, by the paired comparison if the run has one."""
    if other.reading is not None:
        return {
            "worse": "is better than",
            "better": "is worse than",
            "no clear difference": "shows no clear difference from",
        }[other.reading]
    mine, theirs = transfer.measure("auroc"), other.measure("auroc")
    if overlap(mine, theirs) or mine.value is None or theirs.value is None:
        return "has an interval that overlaps that of"
    return "is above" if mine.value > theirs.value else "is below"


def _gap(target: ReportTarget) -> list[str]:
    sentences = []
    transfer = target.row("transfer")
    already = Measure() if transfer is None else transfer.measure("gap_recovered")
    if already.value is not None and any(
        row.label_free and row.measure("gap_recovered").value is not None for row in target.rows
    ):
        # A label-free method that started from transfer inherits its share of the gap, which must not read as its own.
        said = f"{already.value:.0%}{interval(already, percent=True)}"
        sentences.append(f"transfer by itself, without any label-free method, recovered {said} of the gap.")
    for row in target.rows:
        gap = row.measure("gap_recovered")
        if not row.label_free or gap.value is None:
            continue
        said = f"{gap.value:.0%}{interval(gap, percent=True)}"
        if gap.high is not None and gap.high < 0:
            sentences.append(f"{row.method} fell below the untrained model: it recovered {said} of the gap.")
        elif gap.low is not None and gap.low <= 0:
            sentences.append(f"{row.method} recovered {said} of the gap: an interval that holds 0, so perhaps nothing.")
        else:
            sentences.append(f"{row.method} recovered {said} of the gap to training on the target's labels.")
    return sentences


def _readings(target: ReportTarget, name: str, named: str) -> list[str]:
    """Label-free methods by how they compare with a monitor, each with its paired difference."""
    compared = [row for row in target.rows if row.label_free and not row.absent]
    sentences = []
    for reading, opening in (
        ("worse", f"Worse than {named}"),
        ("better", f"Better than {named}"),
        ("no clear difference", f"No clear difference from {named}"),
    ):
        held = [row for row in compared if row.reading_of(name) == reading]
        if held:
            sentences.append(f"{opening}: {_listed(_difference(row, name) for row in held)}.")
    return sentences


def _difference(row: ReportRow, name: str) -> str:
    against = row.measure(name)
    if against.value is None:
        return row.method
    between = f" [{against.low:+.3f}, {against.high:+.3f}]" if against.has_interval else ""
    return f"{row.method} ({against.value:+.3f}{between})"


def _keywords(target: ReportTarget) -> list[str]:
    sentences = []
    for keyword in (row for row in target.rows if row.keyword):
        bar = keyword.measure("auroc")
        if bar.value is None:
            continue
        others = [row for row in target.rows if not row.keyword and row.measure("auroc").value is not None]
        below = [row.method for row in others if (row.measure("auroc").value or 0.0) <= bar.value]
        unclear = [row.method for row in others if row.method not in below and overlap(row.measure("auroc"), bar)]
        if below:
            sentences.append(f"Not above {keyword.method} (AUROC {figure(bar)}): {_listed(below)}.")
        if unclear:
            sentences.append(f"Above {keyword.method}, but with overlapping intervals: {_listed(unclear)}.")
        if others and not below and not unclear:
            sentences.append(f"Every other monitor is above {keyword.method} (AUROC {figure(bar)}).")
    return sentences


def _undefined(target: ReportTarget) -> list[str]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in target.rows:
        if row.absent:
            continue
        auroc, gap = row.measure("auroc"), row.measure("gap_recovered")
        if auroc.value is None:
            reasons.setdefault(("AUROC", auroc.undefined), []).append(row.method)
        elif gap.value is None and (row.label_free or row.role == "transfer"):
            reasons.setdefault(("Gap recovered", gap.undefined), []).append(row.method)
    return [f"{name} is undefined for {_listed(who)}: {why}." for (name, why), who in reasons.items()]


def _unscored(rows: Iterable[ReportRow]) -> list[str]:
    sentences = []
    for row in rows:
        texts = sum(row.unscored.values())
        if texts:
            noun = "text" if texts == 1 else "texts"
            reasons = _listed(f"{reason} ({count})" for reason, count in row.unscored.items())
            worst = row.measure("worst_case_auroc")
            if worst.value is not None:
                reasons += f"; if every one of them hid a mistake, its AUROC would be {figure(worst)}"
            sentences.append(f"{row.method} left {texts} {noun} unscored: {reasons}.")
        elif row.coverage is not None and row.coverage < 1:
            sentences.append(f"{row.method} scored only {row.coverage:.1%} of the texts.")
    return sentences


def _mass(rows: Iterable[ReportRow]) -> list[str]:
    low = [row for row in rows if row.verdict_mass is not None and row.verdict_mass < LOW_MASS]
    shares = _listed(f"{row.method} ({row.verdict_mass:.0%})" for row in low)
    return (
        [f"Little probability is on the verdict words, so the question is often not answered: {shares}."] if low else []
    )


def _not_run(rows: Iterable[ReportRow]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.skipped and not row.error:
            reasons.setdefault(row.skipped.rstrip("."), []).append(row.method)
    return [f"Not run: {_listed(who)} ({why})." for why, who in reasons.items()]


def _failures(rows: Iterable[ReportRow]) -> list[str]:
    return [f"{row.method} failed: {row.error.rstrip('.')}." for row in rows if row.error]


def figure(measure: Measure) -> str:
    """A figure with its interval, as in `0.812 [0.771, 0.848]`."""
    return "undefined" if measure.value is None else f"{measure.value:z.3f}{interval(measure)}"


def interval(measure: Measure, percent: bool = False) -> str:
    """` [low, high]`, or nothing where there is no interval."""
    if measure.low is None or measure.high is None:
        return ""
    return f" [{measure.low:z.0%}, {measure.high:z.0%}]" if percent else f" [{measure.low:z.3f}, {measure.high:z.3f}]"


def overlap(one: Measure, other: Measure) -> bool:
    """Whether two intervals share a point; figures without an interval are treated as unsure."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return True
    return one.low <= other.high and other.low <= one.high


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items)
