"""The command line: what a user sees first, and what they see when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from elicit.cli import main
from elicit.domains import Question
from elicit.monitors import KeywordMonitor
from experiments.cli import main as experiments_main
from tests.runs.conftest import model_folder, rows_about, write_domain  # noqa: F401  # a fixture

runner = CliRunner()


def ok(*arguments: object) -> str:
    result = runner.invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def fails(*arguments: object) -> str:
    result = runner.invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output


def test_help_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from elicit.cli import main; "
        "r = CliRunner().invoke(main, ['run', '--help']); assert r.exit_code == 0, r.output; "
        "print([m for m in ('torch', 'transformers', 'sklearn') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_command_explains_itself_within_60_columns() -> None:
    for command in main.commands:
        result = runner.invoke(main, [command, "--help"], terminal_width=60)
        assert result.exit_code == 0
        assert max(map(len, result.output.splitlines())) <= 78, command


@pytest.mark.parametrize("group", [main, experiments_main, experiments_main.commands["benchmark"]])
def test_what_commands_do_is_wrapped_where_it_is_narrow_and_never_cut(group) -> None:
    listed = " ".join(runner.invoke(group, ["--help"], terminal_width=60).output.split())
    for command in group.commands.values():
        assert " ".join((command.help or "").partition("\n\n")[0].split()) in listed


def test_methods_say_which_labels_they_use() -> None:
    listed = {line.split()[0]: line for line in ok("methods").splitlines()}
    assert "label-free" in listed["ccs"]
    assert "labels: target" in listed["verdict-target"]
    assert "labels: source" in listed["transfer"]


def test_domains_are_listed_with_licence_rows_and_question() -> None:
    listed = ok("domains")
    assert "vader/amazon  [MIT; 1744 flagged, 1233 cleared]" in listed
    assert "agent/web-policy" in listed
    assert "facts/elements" in listed


def test_harmful_rows_are_masked_unless_asked_for() -> None:
    masked = ok("domains", "show", "pyrit/refusal", "--rows", "3")
    assert masked.count("[masked, ") == 3
    assert "Assistant:" not in masked
    assert "Assistant:" in ok("domains", "show", "pyrit/refusal", "--rows", "3", "--unmask")


def test_what_is_in_a_domain_is_counted(tmp_path: Path) -> None:
    rows = [{"text": "a" * i, "label": i % 2} for i in range(12)] + [{"text": "AA", "label": 1}, {"text": "b"}]
    shown = ok("domains", "show", write_domain(tmp_path, "mixed", rows))
    assert "mixed: 13 texts, 1 repeated ones left out" in shown
    assert "labels: 6 flagged, 5 cleared, 2 unknown, of which 1 carry both" in shown  # aa is 0 and 1
    assert "characters: 5 in the median, at most 11; empty texts: 1" in shown
    assert "splits: train 8, calibration 2, test 3" in shown


def test_a_model_that_is_not_there_is_not_looked_for_on_the_hub_when_one_is_called_alike(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "x"}\n')
    for name, said in (
        ("smollm2-135m-instrct", "did you mean smollm2-135m-instruct?"),
        ("http://localhost:1", "write endpoint:http"),
    ):
        asked = ["score", "--monitor", name, "--question", "Is it?", "--out", str(tmp_path / "out"), str(texts)]
        result = CliRunner().invoke(main, asked)
        assert result.exit_code == 1
        assert said in result.output


def test_a_report_of_what_is_no_run_says_so(tmp_path: Path) -> None:
    for held, said in (({"experiment": "transfer"}, "is of an experiment"), ({"rows": []}, "is damaged: 'versions'")):
        (tmp_path / "manifest.json").write_text("{}")
        (tmp_path / "results.json").write_text(json.dumps(held))
        result = CliRunner().invoke(main, ["report", str(tmp_path)])
        assert result.exit_code == 1
        assert said in result.output


def test_a_terminal_never_receives_control_characters_of_a_text(tmp_path: Path) -> None:
    rows = [{"text": f"\x1b[31mred\x07 {i}", "label": i % 2} for i in range(10)]
    shown = ok("domains", "show", write_domain(tmp_path, "odd", rows))
    assert "\x1b" not in shown
    assert "\x07" not in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--target", "vader/tweet", "--out", "OUT"), "vader/tweets"),
        (("run", "--target", "vader/tweets", "--method", "css", "--out", "OUT"), "no method 'css'"),
        (("run", "--out", "OUT"), "Missing option '--target'"),
        (("run", "--target", "nothing.toml", "--out", "OUT"), "nothing.toml"),
        (("domains", "show", "vader/nothing"), "vader/nothing"),
        (("score", "--monitor", "OUT", "--out", "OUT/x", "OUT/none.jsonl"), "there is no file"),
        (("report", "OUT"), "holds no finished run"),
    ],
)
def test_mistakes_end_with_one_clear_line(arguments, says, tmp_path) -> None:
    assert says in fails(*(argument.replace("OUT", str(tmp_path)) for argument in arguments))


def test_run_report_and_score_together(model_folder, tmp_path) -> None:  # noqa: F811
    source = write_domain(tmp_path, "phones", rows_about("phone", 60))
    target = write_domain(tmp_path, "films", rows_about("film", 80))
    out = tmp_path / "run"
    command = ["run", "--model", model_folder, "--dtype", "float32", "--source", source, "--target", target]
    command += ["--method", "untrained", "--method", "transfer", "--method", "ccs", "--epochs", "1", "--out", out]
    printed = ok(*command)
    assert "films" in printed
    assert str(out / "report.html") in printed
    assert ok(*command).splitlines()[-1] == printed.splitlines()[-1]
    (out / "report.html").unlink()
    ok("report", out)
    assert (out / "report.html").is_file()

    texts = tmp_path / "texts.jsonl"
    texts.write_text(
        "".join(json.dumps({"id": f"t{i}", "text": row["text"]}) + "\n" for i, row in enumerate(rows_about("car", 9)))
    )
    ok(
        "score",
        "--monitor",
        out / "monitors" / "films" / "ccs",
        "--dtype",
        "float32",
        "--out",
        tmp_path / "scores.jsonl",
        texts,
    )
    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"t{i}" for i in range(9)]
    assert all({"score", "label_hat", "confidence"} < set(line) for line in lines)


def test_another_question_is_asked_without_the_old_threshold(tmp_path) -> None:
    monitor = tmp_path / "monitor"
    KeywordMonitor({"good": (1.0, 2.0)}, 0.0, Question("Is it good?")).save(monitor)
    (monitor / "calibration.json").write_text(
        json.dumps({"calibration": {"slope": 1.0, "intercept": -1.0, "threshold": 1.0, "kind": "median"}})
    )
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "good"}\n')
    ok("score", "--monitor", monitor, "--out", tmp_path / "a", texts)
    ok("score", "--monitor", monitor, "--question", "Is it bad?", "--out", tmp_path / "b", texts)
    assert set(json.loads((tmp_path / "a").read_text())) == {"id", "score", "label_hat", "confidence"}
    assert set(json.loads((tmp_path / "b").read_text())) == {"id", "score"}


def test_cache_shows_and_clears_readings(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("elicit.domains.artefacts.cache_dir", lambda: tmp_path)
    monkeypatch.setattr("elicit.language_models.cache.cache_dir", lambda: tmp_path)
    (tmp_path / "readings.sqlite").write_bytes(b"x" * 2_000_000)
    (tmp_path / "models" / "a").mkdir(parents=True)
    (tmp_path / "models" / "a" / "weights").write_bytes(b"x" * 3_000_000)
    assert "readings.sqlite             2.0 MB" in ok("cache")
    assert "readings.sqlite" not in ok("cache", "--clear")
    assert "models                      3.0 MB" in ok("cache")
    assert "models" not in ok("cache", "--clear-all")
