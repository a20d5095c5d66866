"""What a plan says of a run, beside what the run then does."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import elicit.planning
from elicit.cli import main
from elicit.domains import Question, Row, make_domain
from elicit.errors import ModelError
from elicit.language_models.local import LocalModel
from elicit.methods.cost import SentTexts, Texts
from elicit.monitors import KeywordMonitor, VerdictMonitor
from elicit.planning import Line, Pass, Plan, Speed, _training_rate, plan
from elicit.run_config import RunConfig
from elicit.runs import run
from elicit.training import TrainingConfig
from tests.language_models.servers import Proxy, Toy
from tests.runs.conftest import model_folder, rows_about, write_domain  # noqa: F401  # a fixture

# Those that take what their search, or their reasoning, takes are left out.
METHODS = ("untrained", "transfer", "consistency", "bootstrap", "random-shots", "ccs", "vinc", "state-consistency")
METHODS += ("keyword-target", "probe-source", "probe-target", "verdict-target")
FEW = Texts("few", count=4, tokens=40, shots=36, learnt=32, head=100, tail=3, turn=6, state=7)


def test_passes_by_hand() -> None:
    assert FEW.verdicts().tokens == 100 + 40 + 4 * 3
    # Two texts on their own, and both behind what they begin with.
    assert FEW.first_look("m").tokens == 3 * 100 + 4 * (11 + 3)
    assert FEW.states().tokens == 100 + 40 + 4 * (3 + 2)  # both verdicts behind each prompt
    assert FEW.states().disk == 4 * 7
    assert FEW.examples(2) == 2 * (9 + 6)
    assert FEW.after(FEW.examples(2), times=3).tokens == 3 * (100 + 30 + 40 + 4 * 3)
    # Two sequences, head once; a last turn ends with its tail, before the verdict.
    assert FEW.packed(3, 1).tokens == 100 + (36 + 4 * 6) - 2 * (6 - 3)
    # Two batches an epoch, each with the head once.
    config = TrainingConfig(texts=4, epochs=1.5, batch_size=3)
    assert FEW.trained(config, "start").tokens == 1.5 * (2 * 100 + 32 + 4 * 3)
    # 20 texts are 7 steps of 3, each of which is followed by a look at all four in one batch.
    assert FEW.validated(replace(config, epochs=1.0), trained_on=20).tokens == 7 * (100 + 32 + 4 * 3)
    # Of 67 steps every 13th.
    assert FEW.validated(replace(config, epochs=1.0), trained_on=200).tokens == 5 * (100 + 32 + 4 * 3)
    half = FEW.at_most(2)
    assert (half.count, half.tokens, half.shots, half.learnt) == (2, 20, 18, 16)
    assert FEW.at_most(9) is FEW


def test_time_is_tokens_by_kind_and_what_trainings_take_beside_them() -> None:
    passes = (
        Pass("m", "a", "reading", 100),
        Pass("m", "b", "states", 60),
        Pass("m", "c", "training", 30, at_most=True),
    )
    speed = Speed({"reading": 50.0, "states": 20.0, "training": 10.0}, training=4.0, loading=8.0)
    assert speed.seconds(passes) == 2 + 3 + 3 + 4
    lines = [
        Line("t", "one", passes[:2], 5_000_000),
        Line("t", "two", passes[2:], 0),
        Line("t", "three", (), 0, "no labels"),
    ]
    shown = str(Plan(lines, speed)).splitlines()
    assert shown[3].split() == ["one", "160", "–", "5", "s", "5", "MB"]
    assert shown[4].split() == ["two", "–", "≤", "30", "≤", "7", "s", "0", "MB"]
    assert shown[5].split() == ["three", "no", "labels"]
    assert shown[7].split() == ["total", "≤", "160", "≤", "30", "≤", "20", "s", "5", "MB"]


def test_tokens_that_stand_before_a_token_take_time() -> None:
    texts = Texts("films", count=10, tokens=100, shots=100, learnt=100, head=7, tail=4, turn=6)
    # Half of a text and its tail stand before a token on average; of a sequence of five, half of five examples of 16 tokens.
    assert texts.verdicts().seen == 7 + 14 / 2
    assert texts.after(48).seen == 7 + 48 + 14 / 2
    assert texts.packed(5, 2).seen == 7 + 80 / 2
    speed = Speed({"reading": 50.0}, looking=0.001)
    assert speed.seconds([Pass("m", "a", "reading", 100, seen=20.0)]) == pytest.approx(100 / 50 + 100 * 20 * 0.001)


def test_reasoning_by_hand() -> None:
    texts = Texts("films", count=10, tokens=100, shots=100, learnt=100, head=7, tail=3, turn=5)
    written, read = texts.thought(64)
    assert (written.kind, written.tokens) == ("writing", 640)
    assert (read.kind, read.tokens) == ("reading", 7 + 100 + 10 * (3 + 64))
    assert written.at_most


def test_prompts_of_a_server_by_hand() -> None:
    sent = SentTexts("few", count=4, tokens=40, shots=36, learnt=32, head=100, tail=3, turn=6)
    assert sent.verdicts().tokens == 40 + 4 * (100 + 3 + 1)
    assert sent.after(30, times=3).tokens == 3 * (40 + 4 * (100 + 30 + 3 + 1))
    # Two sequences of two: the second text of each has an example of 9 + 6 tokens before it.
    assert sent.packed(3, 1).tokens == 36 + 4 * (100 + 3 + 1) + 2 * 15
    assert [one.tokens for one in sent.thought(64)] == [256, 40 + 4 * (100 + 64 + 3 + 1)]
    assert sent.at_most(2).verdicts().tokens == 20 + 2 * (100 + 3 + 1)


def test_a_server_is_sent_the_tokens_of_its_plan(make_tokenizer, tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path / "tokenizer")
    toy = Toy(make_tokenizer())
    toy.context = 8192
    proxy = Proxy(toy)
    try:
        name = f"endpoint:{proxy.url}#toy,tokenizer={tmp_path / 'tokenizer'}"
        films = write_domain(tmp_path, "films", rows_about("film", 150))
        methods = ("untrained", "random-shots", "bootstrap", "consistency", "keyword-target")
        config = RunConfig(name, (), (str(films),), methods)
        planned = plan(config, tokens_per_second=1000)
        measured = plan(config)
        run(config, tmp_path / "run")
    finally:
        proxy.close()
    assert set(measured.speed.rates) == {"reading"}
    assert measured.speed.rates["reading"] > 0
    assert measured.lines == planned.lines
    timings = json.loads((tmp_path / "run" / "timings.json").read_text())
    for line in planned.lines:
        tokens = sum(one.tokens for one in line.passes)
        # The check of the server comes on top, once.
        assert 0.97 * tokens <= timings[f"films/{line.method}"]["tokens"] <= 1.03 * tokens + 400, line.method
    assert sum(bool(line.passes) for line in planned.lines) == 4


@pytest.fixture
def config(model_folder, tmp_path: Path) -> RunConfig:  # noqa: F811
    source = write_domain(tmp_path, "phones", rows_about("phone", 120))
    target = write_domain(tmp_path, "films", rows_about("film", 240))
    sizes = {"source_texts": 40, "target_texts": 96, "epochs": 1.0, "dtype": "float32", "device": "cpu"}
    return RunConfig(str(model_folder), (str(source),), (str(target),), METHODS, **sizes)


def test_a_run_reads_the_tokens_of_its_plan_and_is_then_done(config, tmp_path: Path) -> None:
    planned = plan(config, tmp_path / "run", tokens_per_second=1000)
    run(config, tmp_path / "run")
    timings = json.loads((tmp_path / "run" / "timings.json").read_text())
    read = {
        line.method: sum(one.tokens for one in line.passes if one.kind != "training")
        for line in planned.lines
        if line.target
    }
    for name, tokens in read.items():
        # What a longer sequence is compared with comes on top.
        assert timings[f"films/{name}"]["tokens"] == pytest.approx(tokens, rel=0.05, abs=600), name
    assert sum(tokens > 0 for tokens in read.values()) >= 7
    assert [read[name] for name in ("vinc", "state-consistency", "probe-target")] == [0] * 3  # ccs has read it
    again = plan(config, tmp_path / "run", tokens_per_second=1000)
    assert [line.note for line in again.lines] == ["done"] * len(config.methods)
    assert again.seconds == 0


def test_a_plan_starts_from_a_monitors_folder_as_a_run_does(config, tmp_path) -> None:
    VerdictMonitor(LocalModel.load(config.model, "float32", "cpu"), Question("Is it good?")).save(tmp_path / "monitor")
    alone, within = (
        plan(replace(config, model=model), tokens_per_second=1000)
        for model in (config.model, str(tmp_path / "monitor"))
    )
    assert [line.passes for line in within.lines] == [line.passes for line in alone.lines]
    KeywordMonitor({"good": (1.0, 2.0)}, 0.0, Question("Is it good?")).save(tmp_path / "keywords")
    with pytest.raises(ModelError, match="is a keyword monitor"):
        plan(replace(config, model=str(tmp_path / "keywords")), tokens_per_second=1000)


def test_a_run_reads_as_much_of_a_text_as_it_is_told_and_its_monitors_remember(config, tmp_path) -> None:
    folder = tmp_path / "monitor"
    model = LocalModel.load(config.model, "float32", "cpu", max_text_tokens=40)
    VerdictMonitor(model, Question("Is it good?")).save(folder)
    assert config.load().max_text_tokens == 2048
    assert replace(config, model=str(folder)).load().max_text_tokens == 40
    assert replace(config, model=str(folder), max_text_tokens=5).load().max_text_tokens == 5
    whole, cut = (plan(replace(config, max_text_tokens=most), tokens_per_second=1000) for most in (None, 5))
    assert sum(p.tokens for line in cut.lines for p in line.passes) < sum(
        p.tokens for line in whole.lines for p in line.passes
    )


def test_other_hardware_is_reckoned_with_without_the_weights(config, monkeypatch) -> None:
    monkeypatch.setattr("elicit.run_config.load_start", lambda *_: pytest.fail("no weights are needed"))
    asked = [
        "--model",
        config.model,
        "--source",
        config.sources[0],
        "--target",
        config.targets[0],
        "--source-texts",
        "40",
    ]
    sizes = ["--target-texts", "48", "--epochs", "1", "--method", "transfer", "--method", "self-training"]
    result = CliRunner().invoke(main, ["plan", *asked, *sizes, "--tokens-per-second", "100"])
    assert result.exit_code == 0, result.output
    rows = {line.split("  ")[0]: line.split() for line in result.output.splitlines() if line}
    # Three times 40 training texts of one epoch, and a look at the 24 calibration texts after each of three steps.
    looked, trained = (int(cell.replace(",", "")) for cell in rows["source training"][2:4])
    assert 0 < looked < 3 * trained
    assert rows["source training"][4:6] == [f"{(looked + 3 * trained) / 100:.0f}", "s"]
    assert rows["self-training"][1] == "≤"


def test_without_a_source_methods_start_from_the_untrained_model(config) -> None:
    methods = ("untrained", "consistency", "transfer", "ccs")
    planned = plan(RunConfig(config.model, (), config.targets, methods), tokens_per_second=1000)
    assert [line.method for line in planned.lines] == list(methods)
    assert planned.lines[2].note == "there is no source"
    # The verdicts on what is scored are there, so that none of them is left.
    assert not any(one.what.startswith("verdicts of test") for one in planned.lines[1].passes)


def test_a_method_of_which_nobody_counted_the_passes_has_a_line_that_says_so(config, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(elicit.methods.own, "METHODS", held := dict(elicit.methods.METHODS))
    monkeypatch.setattr(elicit.methods.registry, "METHODS", held)
    monkeypatch.setattr(elicit.planning, "METHODS", held)
    monkeypatch.setattr(elicit.run_config, "METHODS", held)
    (file := tmp_path / "mine.py").write_text(
        "from elicit import Elicited, label_free\n\n"
        "@label_free('mine', 'the monitor as it is')\ndef mine(monitor, target, seed):\n    return Elicited(monitor)\n"
    )
    asked = ["plan", "--model", config.model, "--target", config.targets[0], "--tokens-per-second", "1000"]
    result = CliRunner().invoke(main, [*asked, "--method", "untrained", "--method", str(file)])
    assert result.exit_code == 0, result.output
    assert "its cost is not known" in next(line for line in result.output.splitlines() if "mine" in line)


def test_what_done_methods_have_read_is_not_read_again(config, tmp_path: Path) -> None:
    (tmp_path / "run" / "scores" / "films").mkdir(parents=True)
    (tmp_path / "run" / "monitors" / "films" / "ccs").mkdir(parents=True)
    (tmp_path / "run" / "scores" / "films" / "ccs.jsonl").touch()
    (tmp_path / "run" / "monitors" / "films" / "ccs" / "calibration.json").touch()
    both = replace(config, methods=("ccs", "vinc", "transfer"))
    fresh, half = (plan(both, out, tokens_per_second=1000).lines for out in (None, tmp_path / "run"))
    assert fresh[1].passes  # of ccs
    assert half[1] == Line("films", "ccs", (), 0, "done")
    assert half[2:] == fresh[2:]
    alone = plan(replace(config, methods=("vinc",)), tokens_per_second=1000).lines[1]
    assert half[2] != alone


@pytest.mark.parametrize(
    ("batch_size", "texts", "sizes"),
    [
        (16, 100, [(20, 4), (80, 16)]),
        (16, 50, [(20, 4), (50, 10)]),  # five steps each
        (16, 39, [(20, 4)]),
        (16, 12, [(12, 4)]),
        (7, 100, [(8, 1), (32, 4)]),
        (2, 100, [(8, 1), (32, 2)]),
        (1, 100, [(8, 1), (32, 1)]),
    ],
)
def test_two_trainings_that_are_measured_differ_in_their_texts(batch_size, texts, sizes, config, monkeypatch) -> None:
    trained = []
    monkeypatch.setattr(
        elicit.planning, "train_monitor", lambda _, parts, __, how, ___: trained.append((len(parts[0]), how.batch_size))
    )
    domain = make_domain("d", Question("Is it good?"), [Row(str(i), f"text {i}") for i in range(texts)])
    counted = SimpleNamespace(texts=lambda _, part: replace(FEW, count=len(part), learnt=8 * len(part)))
    rate, beside = _training_rate(replace(config, batch_size=batch_size), None, domain, counted)
    assert trained == sizes
    assert rate > 0
    assert beside >= 0


@pytest.mark.parametrize("batch_size", [1, 16])
def test_speed_is_measured_by_kind(batch_size, config) -> None:
    methods = ("transfer", "ccs")
    planned = plan(
        RunConfig(config.model, config.sources, config.targets, methods, dtype="float32", batch_size=batch_size)
    )
    assert set(planned.speed.rates) == {"reading", "states", "training"}
    assert all(rate > 0 for rate in planned.speed.rates.values())
    assert planned.seconds > planned.speed.loading + planned.speed.training > 0
