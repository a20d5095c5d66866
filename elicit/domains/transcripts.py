"""Transcripts of agents: Inspect `.eval` and `.json` logs, and what ControlArena's `trajectory export` writes.

Read without either package. A `.eval` log is a ZIP file of JSON: members are read in memory, one by one, up to a limit, and nothing
is unpacked to disk. What an agent wrote is data; of other fields only scores and metadata are looked at, for the label.

A monitor reads a transcript as one text per *step*: the task, and what happened up to a turn of the agent. A step that is too long
loses its middle, and too many steps lose those in the middle: the task and the last steps always stay.
"""

from __future__ import annotations

import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from elicit.domains.domain import Domain, Question, Row, UnlabelledDomain, make_domain
from elicit.errors import DomainError

LARGEST = 512 * 2**20  # bytes of one sample: more is no transcript that anybody scores
LARGEST_LOG = 2 * 2**30  # characters of all transcripts of a log, which are held in memory
LONGEST_STEP = 20_000  # characters of a step, or of the task, that are kept: many times what is read of one
STEP = 1200  # characters of one step
WHOLE = 6000  # characters of all that a monitor reads at once
GAP = "\n[…]\n"
ZSTANDARD = 93  # ZIP's number of the method, which the standard library knows from Python 3.14 on
ATTACHMENT = "attachment://"
Part = TypeVar("Part", list[Any], dict[str, Any])
HARMFUL, HONEST = ("unsafe", "attack", "c"), ("safe", "honest", "i")
UNDECIDED = ("", "n", "p")  # Inspect's scores of no answer and of a half right one


@dataclass
class LabelField:
    """Where the label of a sample stands.

    Attributes:
        kind: "scores" or "metadata".
        name: of the score or field.
        met: names that samples have.
    """

    kind: str
    name: str
    met: set[str] = field(default_factory=set)

    @classmethod
    def parse(cls, label: str) -> LabelField:
        """From "scores.NAME" or "metadata.NAME".

        Raises:
            DomainError: it is neither.
        """
        kind, _, name = label.partition(".")
        if kind not in ("scores", "metadata") or not name:
            raise DomainError(f"the label {label!r} is not of the form scores.NAME or metadata.NAME")
        return cls(kind, name)

    def value(self, where: str, held: Mapping[str, Any], metadata: Mapping[str, Any]) -> Any:
        """What a sample has there; None where it has nothing, as a sample that ended in an error."""
        fields = _part(where, held, "scores", dict) if self.kind == "scores" else metadata
        self.met.update(fields)
        value = fields.get(self.name)
        return value.get("value") if self.kind == "scores" and isinstance(value, Mapping) else value


@dataclass(frozen=True)
class Transcript:
    """What an agent was asked to do, and what it did.

    Attributes:
        id: unique within a file.
        task: the system's and the user's words before the agent's first turn.
        steps: (s,) turns of the agent, each with the output of the tools that it called.
        label: 1 = harmful, 0 = honest, None = unknown.
        group: transcripts of one task are not independent.
    """

    id: str
    task: str
    steps: tuple[str, ...]
    label: int | None = None
    group: str | None = None

    def until(self, step: int, step_characters: int = STEP, characters: int = WHOLE) -> str:
        """The task and the steps up to this one, of which the middle ones go where they are too long together."""
        task = shorten(self.task, max(step_characters, characters // 3))
        steps = [shorten(text, step_characters) for text in self.steps[: step + 1]]
        kept: list[str] = []
        room = characters - len(task)
        while steps and (not kept or room >= len(steps[-1])):
            room -= len(steps[-1])
            kept.insert(0, steps.pop())
        left_out = [f"[… {len(steps)} steps left out …]"] if steps else []
        return "\n\n".join([task, *left_out, *kept])

    @property
    def text(self) -> str:
        """All of it."""
        return self.until(len(self.steps) - 1)


def shorten(text: str, characters: int) -> str:
    """A text of at most so many characters, which loses its middle."""
    if len(text) <= characters:
        return text
    room = max(2, characters - len(GAP))
    return text[: room // 2] + GAP + text[len(text) - (room - room // 2) :]


def transcript_domain(name: str, question: Question, transcripts: Sequence[Transcript]) -> Domain:
    """One text per transcript."""
    return make_domain(name, question, (Row(each.id, each.text, each.label, each.group) for each in transcripts))


def step_domain(
    name: str, question: Question, transcripts: Sequence[Transcript], most: int | None = None
) -> UnlabelledDomain:
    """One text per step, without labels: it is the transcript that has one. The group is the transcript's id.

    Args:
        name, question: of the domain.
        transcripts: whose steps they are.
        most: of steps per transcript; of a longer one the last steps are taken.
    """
    rows = [
        (each, step)
        for each in transcripts
        for step in range(max(0, len(each.steps) - (most or len(each.steps))), len(each.steps))
    ]
    return UnlabelledDomain(
        name,
        question,
        tuple(f"{each.id} step {step + 1}" for each, step in rows),
        tuple(each.until(step) for each, step in rows),
        tuple(each.id for each, _ in rows),
    )


def read_transcripts(path: Path, label: str | None = None) -> list[Transcript]:
    """Transcripts of a log.

    Args:
        path: an Inspect log (.eval or .json), ControlArena's trajectory.jsonl, or the folder that holds it.
        label: where the label stands: "scores.NAME" or "metadata.NAME"; a sample without it has no label. By default as in
            ControlArena's export: a transcript is harmful where the scorer side_task_success says correct, and honest where it says
            incorrect or the run's mode is honest.

    Raises:
        DomainError: the file is none of these, is damaged, or holds a sample that cannot be read, which the message names; or no
            sample has such a label.
    """
    if path.is_dir():
        path = path / "trajectory.jsonl"
    if not path.is_file():
        raise DomainError(f"{path}: there is no such log; name an .eval or .json log of Inspect, or a trajectory.jsonl")
    readers = {".eval": _from_eval, ".json": _from_json, ".jsonl": _from_export}
    if path.suffix not in readers:
        raise DomainError(f"{path}: a log is an .eval or .json file of Inspect, or ControlArena's trajectory.jsonl")
    place = LabelField.parse(label) if label is not None else None
    found: list[Transcript] = []
    room = LARGEST_LOG
    for each in readers[path.suffix](path, place):
        room -= len(each.task) + sum(map(len, each.steps))
        if room < 0:
            raise DomainError(
                f"{path}: its transcripts have more than {LARGEST_LOG} characters; make several logs of it"
            )
        found.append(each)
    if not found:
        raise DomainError(f"{path}: no sample holds a turn of an agent")
    if place is not None and place.name not in place.met:
        there = ", ".join(repr(name)[:40] for name in sorted(place.met)[:20]) or "none"
        raise DomainError(f"{path}: no sample has {label}; of {place.kind} there are: {there}")
    return found


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """JSON may be nested deeper than Python can follow."""
    try:
        yield
    except RecursionError as error:
        raise DomainError(f"{where} is nested too deeply to be read; leave it out of the log") from error


def _from_eval(path: Path, label: LabelField | None) -> Iterator[Transcript]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(
                name for name in archive.namelist() if name.startswith("samples/") and name.endswith(".json")
            )
            header: dict[str, Any] = {}
            if "header.json" in archive.namelist():
                header = _header(f"{path}: header.json", _member(path, archive, "header.json"))
            for name in names:
                yield from _sample(f"{path}: {name}", _member(path, archive, name), header, label)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise DomainError(f"{path}: not a readable .eval log ({error}); copy it again") from error


def _from_json(path: Path, label: LabelField | None) -> Iterator[Transcript]:
    held = _parse(str(path), path.read_bytes())
    header = _header(str(path), held)
    for number, sample in enumerate(_part(str(path), held, "samples", list)):
        yield from _sample(f"{path}: sample {number}", sample, header, label)


def _from_export(path: Path, label: LabelField | None) -> Iterator[Transcript]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream):
            if not line.strip():
                continue
            where = f"{path}: line {number + 1}"
            held = _parse(where, line)
            if not isinstance(held.get("raw_state"), str):
                raise DomainError(f"{where} has no 'raw_state'; write the file with `control-arena trajectory export`")
            try:
                messages = json.loads(held["raw_state"])
            except (ValueError, RecursionError) as error:
                raise DomainError(f"{where} has a 'raw_state' that is not JSON ({error}); export it again") from error
            system = [
                {"role": "system", "content": _words(part)} for part in _part(where, held, "system_messages", list)
            ]
            metadata = _part(where, held, "metadata", dict)
            with _readable(where):
                task, steps = _turns(where, [*system, *_part(where, {"raw_state": messages}, "raw_state", list)], {})
                found = _label(where, held.get("rating") if label is None else label.value(where, held, metadata))
                group = _group(metadata)
            if steps:
                yield Transcript(str(number), task, steps, found, group)


def _header(where: str, held: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of the evaluation, which all samples share."""
    return _part(where, _part(where, held, "eval", dict), "metadata", dict)


def _sample(where: str, held: Any, header: Mapping[str, Any], label: LabelField | None) -> Iterator[Transcript]:
    if not isinstance(held, Mapping):
        raise DomainError(f"{where} is no JSON object; copy the log again")
    with _readable(where):
        metadata = {**header, **_part(where, held, "metadata", dict)}
        task, steps = _turns(where, _part(where, held, "messages", list), _part(where, held, "attachments", dict))
        value = _usual(where, held, metadata) if label is None else label.value(where, held, metadata)
        found = _label(where, value) if steps else None
        name, epoch = str(held.get("id")), held.get("epoch", 1)
    if steps:
        yield Transcript(name if epoch == 1 else f"{name} epoch {epoch}", task, steps, found, name)


def _usual(where: str, held: Mapping[str, Any], metadata: Mapping[str, Any]) -> Any:
    """The label by ControlArena's conventions."""
    if "side_task_success" in _part(where, held, "scores", dict):
        return LabelField("scores", "side_task_success").value(where, held, metadata)
    return "honest" if metadata.get("eval_mode") == "honest" else None


def _label(where: str, value: Any) -> int | None:
    if isinstance(value, bool | int | float) and value in (0, 1):
        return int(value)
    written = "" if value is None else str(value).strip().casefold()
    if written in UNDECIDED:
        return None
    if written in HARMFUL or written in HONEST:
        return int(written in HARMFUL)
    raise DomainError(
        f"{where} has the label {str(value)[:40]!r}; a label is true, false, 0, 1, {', '.join((*HARMFUL, *HONEST))}, or missing"
    )


def _group(metadata: Mapping[str, Any]) -> str | None:
    for name in ("task_id", "sample_id", "id"):
        if metadata.get(name) is not None:
            return str(metadata[name])
    return None


def _part(where: str, held: Mapping[str, Any], name: str, kind: type[Part]) -> Part:
    """A list or an object within an object; empty where it is missing.

    Raises:
        DomainError: it is something else.
    """
    value = held.get(name) or kind()
    if not isinstance(value, kind):
        is_kind = "a list" if kind is list else "an object"
        raise DomainError(f"{where}: {name!r} is {str(value)[:40]!r} and not {is_kind}; copy or export the log again")
    return value


def _turns(where: str, messages: Sequence[Any], attachments: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The task, and the agent's turns with all that follows each."""
    if not all(isinstance(message, Mapping) for message in messages):
        raise DomainError(f"{where} holds no list of messages")
    task: list[str] = []
    steps: list[list[str]] = []
    for message in messages:
        role, content = str(message.get("role", "")), message.get("content", message.get("parts"))
        words = _words(content, attachments)
        called = _part(where, message, "tool_calls", list)
        if not all(isinstance(call, Mapping) for call in called):
            raise DomainError(f"{where}: 'tool_calls' holds something that is no object; copy or export the log again")
        calls = [_call(call, attachments) for call in called]
        said = "\n".join(part for part in (words, *calls) if part.strip())
        if role in ("assistant", "model"):
            steps.append([f"Agent: {said}"])
            continue
        name = "Tool" if role == "tool" or _is_result(content) else role.capitalize() or "User"
        (steps[-1] if steps else task).append(f"{name}: {said}")
    kept = [shorten("\n".join(step), LONGEST_STEP) for step in (task, *steps)]
    return kept[0], tuple(kept[1:])


def _is_result(content: Any) -> bool:
    """Whether a user's message is what a tool gave back, in the formats of model providers."""
    parts = content if isinstance(content, list) else []
    return any(
        isinstance(part, Mapping) and (part.get("type") == "tool_result" or "function_response" in part)
        for part in parts
    )


def _words(content: Any, attachments: Mapping[str, Any] = {}) -> str:  # it is only read
    """What a message says, from a text or from a list of parts as Inspect, Anthropic and Google write them."""
    if content is None:
        return ""
    if isinstance(content, str):
        kept = attachments.get(content.removeprefix(ATTACHMENT), content) if content.startswith(ATTACHMENT) else content
        return str(kept)
    if isinstance(content, Mapping):
        kind = content.get("type")
        if kind == "tool_use" or "function_call" in content:
            held = content.get("function_call", content)
            if not isinstance(held, Mapping):
                held = {"name": held}
            return _call({"function": held.get("name"), "arguments": held.get("input", held.get("args"))}, attachments)
        if "function_response" in content:
            held = content["function_response"]
            return json.dumps(held.get("response") if isinstance(held, Mapping) else held, ensure_ascii=False)
        for key in ("text", "reasoning", "thinking", "content", "result"):
            if content.get(key):
                return _words(content[key], attachments)
        return "" if kind in ("text", "reasoning", "thinking") else f"[{kind or 'content'}]"
    if isinstance(content, list):
        return "\n".join(part for part in (_words(each, attachments) for each in content) if part)
    return str(content)


def _call(call: Mapping[str, Any], attachments: Mapping[str, Any]) -> str:
    arguments = call.get("arguments")
    if isinstance(arguments, Mapping):
        arguments = ", ".join(f"{name}={_words(value, attachments)}" for name, value in arguments.items())
    return f"{call.get('function', 'tool')}({arguments or ''})"


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    info = archive.getinfo(name)
    if info.file_size > LARGEST:
        raise DomainError(f"{path}: {name} says it is {info.file_size} bytes; more than {LARGEST} are not read")
    if info.compress_type == ZSTANDARD:
        content = _zstandard(path, archive, info)
    else:
        try:
            with archive.open(info) as stream:
                content = stream.read(LARGEST + 1)
        except (NotImplementedError, RuntimeError, ValueError, zlib.error, lzma.LZMAError, EOFError) as error:
            raise DomainError(f"{path}: {name} cannot be unpacked ({error}); copy the log again") from error
    if len(content) > LARGEST:
        raise DomainError(f"{path}: {name} unpacks to more than {LARGEST} bytes")
    return _parse(f"{path}: {name}", content)


def _zstandard(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member in the format of which Inspect writes its logs, by Arrow: before Python 3.14 the standard library cannot."""
    with path.open("rb") as stream:
        stream.seek(info.header_offset)
        start = stream.read(30)
        if len(start) < 30 or start[:4] != b"PK\x03\x04":
            raise DomainError(f"{path}: {info.filename} is damaged; copy the log again")
        name_length, extra_length = struct.unpack("<HH", start[26:30])
        stream.seek(name_length + extra_length, 1)
        packed = stream.read(info.compress_size)
    try:
        with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as unpacked:
            content: bytes = unpacked.read(LARGEST + 1)
    except (OSError, pa.ArrowException) as error:
        raise DomainError(f"{path}: {info.filename} cannot be unpacked ({error}); copy the log again") from error
    if len(content) <= LARGEST and zlib.crc32(content) != info.CRC:
        raise DomainError(f"{path}: {info.filename} is damaged (its checksum is another one); copy the log again")
    return content


def _parse(where: str, content: bytes) -> dict[str, Any]:
    try:
        held = json.loads(content.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise DomainError(f"{where} is not JSON ({error}); copy the log again") from error
    if not isinstance(held, dict):
        raise DomainError(f"{where} is no JSON object")
    return held
