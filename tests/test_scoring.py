"""Scoring files: one line out per line in, whatever the lines hold, and continued after an interruption."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from elicit import scoring
from elicit.cli import main
from elicit.domains import Question
from elicit.errors import DomainError, ModelError, RunError
from elicit.evaluation.score_files import read_scores
from elicit.language_models.local import LocalModel
from elicit.monitors import Calibration, KeywordMonitor, VerdictMonitor, fit_calibration
from elicit.scoring import score_file

QUESTION = Question("Is it good?")


@pytest.fixture
def monitor() -> KeywordMonitor:
    return KeywordMonitor({"good": (1.0, 2.0), "bad": (1.0, -2.0)}, 0.5, Question("Is it good?"))


@pytest.fixture
def calibration() -> Calibration:
    return fit_calibration([-3.0, -2.9, -3.1, -3.0, 3.0, 3.1, 2.9, 3.0, 3.0, -3.0])


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_line_has_its_answer_in_order(monitor, calibration, tmp_path) -> None:
    source, out = tmp_path / "texts.jsonl", tmp_path / "scores.jsonl"
    source.write_bytes(
        b'{"id": "x", "text": "good"}\n'
        b"this is no JSON\n"
        b'{"text": "bad"}\n'
        b'{"id": 7, "text": ""}\n'
        b'{"id": "n", "other": 1}\n'
        b"[1]\n"
        b'{"id": "u", "text": "caf\xe9 good \\ud800 \\u0000"}\n'
    )
    assert score_file(monitor, source, out, calibration) == (7, 4, 0)
    got = lines(out)
    assert [line["id"] for line in got] == ["x", "1", "2", "7", "n", "5", "u"]
    # intercept + weight: one known word has a normalised tf-idf of 1.
    assert got[0]["score"] == 2.5
    assert got[0]["label_hat"] == 1
    assert got[2] | {"confidence": 0} == {"id": "2", "score": -1.5, "label_hat": 0, "confidence": 0}
    assert 0.5 <= got[2]["confidence"] <= 1
    assert got[6]["score"] == 2.5
    assert "no JSON" in got[1]["unscored"]
    assert got[3]["unscored"] == "the text is empty"
    assert "'text'" in got[4]["unscored"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.jsonl", "texts.jsonl"]


def test_an_interrupted_file_is_continued_and_ends_up_the_same(monitor, calibration, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "CHUNK", 3)
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"id": i, "text": "good " * (i % 3)}) + "\n" for i in range(11)))
    score_file(monitor, source, tmp_path / "whole.jsonl", calibration)

    asked: list[str] = []

    class Dying(KeywordMonitor):
        def _score(self, texts):
            if len(asked) >= 6:
                raise KeyboardInterrupt
            asked.extend(texts.texts)
            return super()._score(texts)

    dying = Dying(monitor.vocabulary, monitor.intercept, monitor.question)
    with pytest.raises(KeyboardInterrupt):
        score_file(dying, source, tmp_path / "out.jsonl", calibration)
    (part,) = tmp_path.glob(".out.jsonl.*.part")
    assert len(lines(part)) == 6
    # A kill in the middle of a line leaves half a line, which is scored again.
    part.write_bytes(part.read_bytes() + b'{"id": "6", "sc')
    score_file(monitor, source, tmp_path / "out.jsonl", calibration)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_unfinished_scores_of_other_texts_or_another_monitor_are_not_continued(monitor, tmp_path) -> None:
    source, out = tmp_path / "texts.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "good"}\n{"text": "bad"}\n')

    class Dying(KeywordMonitor):
        def _score(self, texts):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_file(Dying({}, 0.0, monitor.question), source, out, monitor_folder=tmp_path / "one")
    (part,) = tmp_path.glob(".out.jsonl.*.part")
    part.write_text('{"id": "0", "score": 9.0}\n')
    score_file(monitor, source, out, monitor_folder=tmp_path / "two")
    assert [line["score"] for line in lines(out)] == [2.5, -1.5]
    with pytest.raises(RunError, match=r"out\.jsonl is there already; delete it"):
        score_file(monitor, source, out, monitor_folder=tmp_path / "one")
    out.unlink()
    source.write_text('{"text": "bad"}\n{"text": "good"}\n\n')
    score_file(monitor, source, out, monitor_folder=tmp_path / "one")
    assert [line.get("score") for line in lines(out)] == [-1.5, 2.5, None]


def test_unfinished_scores_of_a_monitor_that_was_trained_again_are_not_continued(monitor, tmp_path) -> None:
    source, out, folder = tmp_path / "texts.jsonl", tmp_path / "out.jsonl", tmp_path / "monitor"
    source.write_text('{"text": "good"}\n{"text": "bad"}\n')
    folder.mkdir()

    class Dying(KeywordMonitor):
        def _score(self, texts):
            raise KeyboardInterrupt

    (folder / "monitor.json").write_text("before")
    with pytest.raises(KeyboardInterrupt):
        score_file(Dying({}, 0.0, monitor.question), source, out, monitor_folder=folder)
    (part,) = tmp_path.glob(".out.jsonl.*.part")
    part.write_text('{"id": "0", "score": 9.0}\n')
    (folder / "monitor.json").write_text("trained again")
    score_file(monitor, source, out, monitor_folder=folder)
    assert [line["score"] for line in lines(out)] == [2.5, -1.5]


def test_the_command_does_not_continue_scores_of_a_monitor_that_was_found_again(tmp_path, monkeypatch) -> None:
    source, out, folder = tmp_path / "texts.jsonl", tmp_path / "out.jsonl", tmp_path / "monitor"
    source.write_text('{"text": "good"}\n{"text": "bad"}\n')
    arguments = ["score", "--monitor", str(folder), "--out", str(out), str(source)]
    KeywordMonitor({"good": (1.0, 1.0)}, 0.0, QUESTION).save(folder)
    with monkeypatch.context() as patch:
        patch.setattr(KeywordMonitor, "_score", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        CliRunner().invoke(main, arguments)
    (part,) = tmp_path.glob(".out.jsonl.*.part")
    part.write_text('{"id": "0", "score": 9.0}\n')
    KeywordMonitor({"good": (1.0, 2.0)}, 0.0, QUESTION).save(folder)
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert [line["score"] for line in lines(out)] == [2.0, 0.0]


def test_verdict_words_without_a_question_are_refused(tmp_path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text('{"text": "good"}\n')
    KeywordMonitor({"good": (1.0, 1.0)}, 0.0, QUESTION).save(tmp_path / "monitor")
    asked = [
        "score",
        "--monitor",
        str(tmp_path / "monitor"),
        "--flagged",
        "Ja",
        "--out",
        str(tmp_path / "o"),
        str(source),
    ]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 2
    assert "--flagged is a verdict word of --question" in result.output


def test_a_text_that_lost_its_middle_says_so(make_model, make_tokenizer, tmp_path) -> None:
    model = LocalModel.from_transformers(make_model("llama"), make_tokenizer())
    model.max_text_tokens = 30
    source, out = tmp_path / "texts.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("short", "word " * 50, "", "brief")))
    assert score_file(VerdictMonitor(model, QUESTION), source, out) == (4, 1, 1)
    assert [line.get("truncated") for line in lines(out)] == [None, True, None, None]
    assert read_scores(out).cut == 1


def test_odd_lines_are_rows_without_a_score_or_none_at_all(monitor, tmp_path) -> None:
    source, out = tmp_path / "texts.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b'\xef\xbb\xbf{"text": "good"}\n{"id": "\\ud800", "text": "bad"}\n' + b"[" * 100_000 + b"\n")
    assert score_file(monitor, source, out) == (3, 1, 0)
    found = lines(out)
    assert [line.get("score") for line in found] == [2.5, -1.5, None]
    assert found[1]["id"] == "\ud800"
    assert found[2]["unscored"] == "line 3 is no JSON"


def test_two_processes_do_not_write_the_same_scores(monitor, tmp_path) -> None:
    source, out = tmp_path / "texts.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "good"}\n')

    class Second(KeywordMonitor):
        def _score(self, texts):
            with pytest.raises(RunError, match="another process is writing"):
                score_file(monitor, source, out)
            return super()._score(texts)

    second = Second(monitor.vocabulary, monitor.intercept, monitor.question)
    assert score_file(second, source, out) == (1, 0, 0)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_cannot_be_done_says_so_before_anything_is_written(monitor, tmp_path) -> None:
    source = tmp_path / "texts.jsonl"
    with pytest.raises(DomainError, match=r"no file .*texts\.jsonl"):
        score_file(monitor, source, tmp_path / "out.jsonl")
    source.write_text('{"text": "good"}\n')
    with pytest.raises(RunError, match="is the input itself"):
        score_file(monitor, source, source)
    with pytest.raises(RunError, match=r"there is no folder .*missing"):
        score_file(monitor, source, tmp_path / "missing" / "out.jsonl")
    monitor.question = None
    with pytest.raises(ModelError, match="--question"):
        score_file(monitor, source, tmp_path / "out.jsonl")
