"""Transcripts: logs as Inspect and ControlArena write them, damaged ones, and what a monitor reads of a long one."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicit.domains import Question, transcripts
from elicit.domains.transcripts import Transcript, read_transcripts, shorten, step_domain, transcript_domain
from elicit.errors import DomainError

QUESTION = Question("Does the agent do something unsafe?")
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "You are an agent."},
    {"role": "user", "content": "attachment://abc"},
    {
        "role": "assistant",
        "content": [{"type": "reasoning", "reasoning": "First look."}, {"type": "text", "text": "I list files."}],
        "tool_calls": [{"id": "1", "function": "bash", "arguments": {"cmd": "ls"}, "type": "function"}],
    },
    {"role": "tool", "content": "a.txt", "function": "bash", "tool_call_id": "1"},
    {"role": "assistant", "content": "Done."},
]
TASK = "System: You are an agent.\nUser: Mend the file."
STEPS = ("Agent: First look.\nI list files.\nbash(cmd=ls)\nTool: a.txt", "Agent: Done.")


def sample(name: str, epoch: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "epoch": epoch,
        "messages": MESSAGES,
        "attachments": {"abc": "Mend the file."},
        "metadata": {},
        "scores": {},
    } | more


def write_eval(path: Path, members: dict[str, Any], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, held in members.items():
            archive.writestr(name, json.dumps(held))
    return path


def write_zstandard(path: Path, members: dict[str, Any]) -> Path:
    """As Inspect packs its logs, header by header: the standard library writes the method from Python 3.14 on."""
    body, directory = b"", b""
    for name, held in members.items():
        content = json.dumps(held).encode()
        packed = pa.compress(content, codec="zstd", asbytes=True)
        sizes = struct.pack("<LLL", zlib.crc32(content), len(packed), len(content))
        common = struct.pack("<HHHHH", 63, 0, 93, 0, 33) + sizes + struct.pack("<HH", len(name), 0)
        directory += b"PK\x01\x02" + struct.pack("<H", 63) + common
        directory += struct.pack("<HHHLL", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\x03\x04" + common + name.encode() + packed
    end = struct.pack("<HHHHLLH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    path.write_bytes(body + directory + b"PK\x05\x06" + end)
    return path


@pytest.mark.parametrize("write", [write_eval, write_zstandard])
def test_an_inspect_log(write, tmp_path) -> None:
    found = read_transcripts(
        write(
            tmp_path / "log.eval",
            {
                "header.json": {"eval": {"metadata": {"eval_mode": "attack"}}},
                "samples/a_epoch_1.json": sample("a", scores={"side_task_success": {"value": "C"}}),
                "samples/a_epoch_2.json": sample("a", 2, scores={"side_task_success": {"value": "I"}}),
                "samples/b/1_epoch_1.json": sample("b/1"),
                "samples/c_epoch_1.json": sample("c", messages=MESSAGES[:2]),  # it failed before the agent's turn
                "summaries.json": {},
            },
        )
    )
    assert [(each.id, each.label, each.group) for each in found] == [
        ("a", 1, "a"),
        ("a epoch 2", 0, "a"),
        ("b/1", None, "b/1"),
    ]
    assert {each.task for each in found} == {TASK}
    assert {each.steps for each in found} == {STEPS}


def test_honest_runs_are_honest_and_other_labels_can_be_named(tmp_path) -> None:
    held = {"eval": {"metadata": {"eval_mode": "honest"}}, "samples": [sample("a", metadata={"bad": True})]}
    (tmp_path / "log.json").write_text(json.dumps(held))
    (tmp_path / "other.json").write_text(json.dumps({"samples": [sample("a", scores={"harm": {"value": 0.5}})]}))
    assert read_transcripts(tmp_path / "log.json")[0].label == 0
    assert read_transcripts(tmp_path / "log.json", "metadata.bad")[0].label == 1
    with pytest.raises(DomainError, match=r"no sample has scores\.harm; of scores there are: none"):
        read_transcripts(tmp_path / "log.json", "scores.harm")
    with pytest.raises(DomainError, match=r"the label '0\.5'"):
        read_transcripts(tmp_path / "other.json", "scores.harm")
    with pytest.raises(DomainError, match=r"of the form scores\.NAME"):
        read_transcripts(tmp_path / "other.json", "harm")


ANTHROPIC = [
    {"role": "user", "content": "Mend the file."},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "I list files."},
            {"type": "tool_use", "id": "1", "name": "bash", "input": {"cmd": "ls"}},
        ],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "a.txt"}]}],
    },
]
GOOGLE = [
    {"role": "user", "parts": [{"text": "Mend the file."}]},
    {
        "role": "model",
        "parts": [{"text": "I list files."}, {"function_call": {"name": "bash", "args": {"cmd": "ls"}}}],
    },
    {"role": "user", "parts": [{"function_response": {"name": "bash", "response": "a.txt"}}]},
]


@pytest.mark.parametrize("messages", [ANTHROPIC, GOOGLE])
def test_an_exported_trajectory(messages, tmp_path) -> None:
    lines = [
        {"rating": rating, "raw_state": json.dumps(messages), "metadata": {}, "scores": {}, "system_messages": system}
        for rating, system in (("unsafe", [{"type": "text", "text": "You are an agent."}]), ("safe", []), (None, []))
    ]
    (tmp_path / "trajectory.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read_transcripts(tmp_path)
    assert [each.label for each in found] == [1, 0, None]
    assert [each.task for each in found] == [TASK, "User: Mend the file.", "User: Mend the file."]
    for each in found:
        assert each.steps[0].startswith("Agent: I list files.\nbash(cmd=ls)\nTool: ")
        assert "a.txt" in each.steps[0]


def test_a_sample_without_the_score_has_no_label(tmp_path) -> None:
    held = [{"harm": {"value": value}} for value in ("C", "I", "N", "P", None)]
    samples = [sample(str(i), scores=scores) for i, scores in enumerate([*held, None, {}])]
    (tmp_path / "log.json").write_text(json.dumps({"samples": samples}))
    found = read_transcripts(tmp_path / "log.json", "scores.harm")
    assert [each.label for each in found] == [1, 0, None, None, None, None, None]
    with pytest.raises(DomainError, match=r"no sample has scores\.harmful; of scores there are: 'harm'"):
        read_transcripts(tmp_path / "log.json", "scores.harmful")


@pytest.mark.parametrize("where", ["content", "arguments"])
def test_what_is_nested_too_deeply_is_named(where, tmp_path) -> None:
    deep: object = "end"
    for _ in range(500):  # which the parser of JSON can follow
        deep = [deep]
    said = {"role": "assistant", "content": deep if where == "content" else "yes"}
    if where == "arguments":
        said["tool_calls"] = [{"function": "run", "arguments": {"code": deep}}]
    held = {"samples": [sample("a", messages=[said])]}
    (tmp_path / "log.json").write_text(json.dumps(held))
    with pytest.raises(DomainError, match="sample 0 is nested too deeply"):
        read_transcripts(tmp_path / "log.json")


def test_a_log_is_not_held_beyond_a_limit(tmp_path, monkeypatch) -> None:
    long = {"role": "assistant", "content": "a" * 10**6}
    (tmp_path / "log.json").write_text(json.dumps({"samples": [sample(str(i), messages=[long]) for i in range(3)]}))
    found = read_transcripts(tmp_path / "log.json")
    assert [len(step) for each in found for step in each.steps] == [transcripts.LONGEST_STEP] * 3
    monkeypatch.setattr(transcripts, "LARGEST_LOG", 50_000)
    with pytest.raises(DomainError, match="more than 50000 characters"):
        read_transcripts(tmp_path / "log.json")


def test_damaged_logs_are_named(tmp_path, monkeypatch) -> None:
    good = write_zstandard(tmp_path / "good.eval", {"samples/a_epoch_1.json": sample("a")})
    whole = good.read_bytes()
    (tmp_path / "cut.eval").write_bytes(whole[: len(whole) // 2])
    at = whole.index(b"samples/a") + 80
    (tmp_path / "flipped.eval").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    write_eval(tmp_path / "list.eval", {"samples/a_epoch_1.json": [1]})
    at = whole.index(b"PK\x01\x02") + 6  # the version that is needed to unpack
    (tmp_path / "newer.eval").write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
    (tmp_path / "other.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "log.txt").write_text("x")
    write_eval(tmp_path / "none.eval", {"header.json": {}})
    for name, message in {
        "cut.eval": "not a readable .eval log",
        "newer.eval": "not a readable .eval log",
        "flipped.eval": "samples/a_epoch_1.json (cannot be unpacked|is damaged)",
        "list.eval": "is no JSON object",
        "other.jsonl": "line 1 has no 'raw_state'",
        "log.txt": r"a log is an \.eval",
        "none.eval": "no sample holds a turn",
        "missing.eval": "no such log",
    }.items():
        with pytest.raises(DomainError, match=message):
            read_transcripts(tmp_path / name)
    monkeypatch.setattr(transcripts, "LARGEST", 100)
    for bomb in (good, write_eval(tmp_path / "deflated.eval", {"samples/a_epoch_1.json": sample("a")})):
        with pytest.raises(DomainError, match="more than 100"):
            read_transcripts(bomb)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"samples": ["abc"]}, "sample 0 is no JSON object"),
        ({"samples": 5}, "'samples' is '5' and not a list"),
        ({"eval": [1], "samples": [sample("a")]}, "'eval' is .* and not an object"),
        ({"eval": {"metadata": "m"}, "samples": [sample("a")]}, "'metadata' is 'm' and not an object"),
        *(
            ({"samples": [sample("a"), sample("b", **part)]}, f"sample 1: {message}")
            for part, message in (
                ({"messages": {"role": "user"}}, "'messages' is .* and not a list"),
                ({"messages": [{"role": "assistant", "tool_calls": ["f"]}]}, "'tool_calls' holds something that is no"),
                ({"messages": [{"role": "assistant", "tool_calls": "f"}]}, "'tool_calls' is 'f' and not a list"),
                ({"metadata": [1]}, "'metadata' is .* and not an object"),
                ({"scores": [1]}, "'scores' is .* and not an object"),
                ({"attachments": [1]}, "'attachments' is .* and not an object"),
            )
        ),
    ],
)
def test_parts_of_the_wrong_kind_are_named(held, message, tmp_path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(held))
    with pytest.raises(DomainError, match=rf"log\.json.*{message}"):
        read_transcripts(path)
    if isinstance(held["samples"], list):
        members = {f"samples/{i}.json": each for i, each in enumerate(held["samples"])}
        packed = write_eval(tmp_path / "log.eval", {"header.json": {"eval": held.get("eval")}} | members)
        with pytest.raises(DomainError, match=message.replace("sample 0 ", "0.json ").replace("sample 1:", "1.json:")):
            read_transcripts(packed)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"metadata": [1]}, "'metadata' is .* and not an object"),
        ({"system_messages": 7}, "'system_messages' is '7' and not a list"),
        ({"raw_state": "7"}, "'raw_state' is '7' and not a list"),
        ({"raw_state": '["m"]'}, "holds no list of messages"),
        ({"raw_state": '[{"role": "assistant", "tool_calls": ["f"]}]'}, "'tool_calls' holds something"),
    ],
)
def test_parts_of_the_wrong_kind_are_named_in_an_export(part, message, tmp_path) -> None:
    good = {"raw_state": json.dumps(ANTHROPIC)}
    (tmp_path / "trajectory.jsonl").write_text("\n".join(map(json.dumps, [good, good | part])))
    with pytest.raises(DomainError, match=f"line 2.*{message}"):
        read_transcripts(tmp_path)


def test_scores_may_be_plain_and_odd_content_is_shown_as_it_is(tmp_path) -> None:
    odd = [{"function_call": "f"}, {"function_response": "r"}, "attachment://n"]
    held = sample(
        "a", scores={"side_task_success": 1}, attachments={"n": 3}, messages=[{"role": "model", "content": odd}]
    )
    (tmp_path / "log.json").write_text(json.dumps({"samples": [held]}))
    (found,) = read_transcripts(tmp_path / "log.json")
    assert found.label == 1
    assert found.steps == ('Agent: f()\n"r"\n3',)


def test_a_member_that_lies_about_its_size_is_not_unpacked_whole(tmp_path, monkeypatch) -> None:
    path = write_zstandard(tmp_path / "log.eval", {"samples/a_epoch_1.json": sample("a", metadata={"x": "y" * 5000})})
    content = path.read_bytes()
    size = struct.pack("<L", len(json.dumps(sample("a", metadata={"x": "y" * 5000}))))
    path.write_bytes(content.replace(size, struct.pack("<L", 10)))
    monkeypatch.setattr(transcripts, "LARGEST", 1000)
    with pytest.raises(DomainError, match="unpacks to more than 1000 bytes"):
        read_transcripts(path)


def test_task_and_last_steps_always_stay() -> None:
    transcript = Transcript("t", "T" * 3000, tuple(f"Agent: step {i} " + "x" * 900 for i in range(20)))
    text = transcript.until(12, 1000, 4000)
    assert text.startswith("TTT")
    assert "step 12 " in text
    assert "step 13 " not in text
    assert "steps left out" in text
    assert text.index("left out") < text.index("step 12 ")
    long = Transcript("t", "task", ("Agent: first", "Agent: " + "y" * 9000 + " THE END"))
    assert long.text.endswith("THE END")
    assert len(long.text) < 1500
    assert long.until(0) == "task\n\nAgent: first"


@given(st.text(max_size=300), st.integers(20, 100))
def test_shortened_texts_keep_both_ends(text: str, characters: int) -> None:
    short = shorten(text, characters)
    assert len(short) <= characters
    assert short == text if len(text) <= characters else (short[:5], short[-5:]) == (text[:5], text[-5:])


def test_domains_of_transcripts_and_of_steps() -> None:
    held = [Transcript(str(i), f"task {i}", ("Agent: a", "Agent: b"), i % 2, str(i // 2)) for i in range(8)]
    domain = transcript_domain("agent/log", QUESTION, held)
    assert domain.labels == (0, 1) * 4
    assert domain.groups[:3] == ("0", "0", "1")
    steps = step_domain("agent/log", QUESTION, held)
    assert len(steps) == 16
    assert steps.ids[:2] == ("0 step 1", "0 step 2")
    assert steps.texts[0] == "task 0\n\nAgent: a"
    assert steps.groups[:3] == ("0", "0", "1")
    last = step_domain("agent/log", QUESTION, held, most=1)
    assert last.ids == tuple(f"{i} step 2" for i in range(8))
    assert last.texts[3] == held[3].text
