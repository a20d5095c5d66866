"""The real default model on real catalogue domains: the whole path, small."""

import json
from pathlib import Path

from peft import PeftModel

from elicit import load_domain, load_monitor
from elicit.language_models.loading import load_model
from elicit.run_config import RunConfig
from elicit.runs import run

METHODS = ("untrained", "transfer", "ccs", "keyword-source", "keyword-target")


def test_source_labels_carry_over_to_another_domain(tmp_path: Path) -> None:
    config = RunConfig(
        model="smollm2-135m-instruct",
        sources=("vader/amazon",),
        targets=("vader/tweets",),
        methods=METHODS,
        source_texts=192,
        target_texts=48,
        calibration_texts=32,
        test_texts=96,
        drop_overlap=True,
    )
    rows = {row["method"]: row for row in run(config, tmp_path / "run").results["rows"]}
    # Not a benchmark: with so few texts the figure moves, but chance is .5 and the untrained model is near it.
    assert rows["transfer"]["auroc"]["value"] > 0.75
    assert rows["transfer"]["auroc"]["value"] > rows["untrained"]["auroc"]["value"] + 0.1
    assert rows["ccs"]["labels_used"] == "source"
    assert {row["n"] for row in rows.values()} == {96}

    adapter = tmp_path / "run" / "monitors" / "source" / "adapter"
    PeftModel.from_pretrained(load_model("smollm2-135m-instruct")[0], str(adapter))
    monitor = load_monitor(tmp_path / "run" / "monitors" / "source")
    plain = monitor.score(["I love it, it works so well.", "Awful. It broke on the first day."])
    assert plain.values[0] > plain.values[1]
    lines = (tmp_path / "run" / "scores" / "vader" / "tweets" / "transfer.jsonl").read_text().splitlines()
    held = {line["id"]: line["score"] for line in map(json.loads, lines)}
    test = load_domain("vader/tweets").test.sample(96)
    assert list(held) == list(test.ids)
