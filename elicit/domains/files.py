"""Domains of one's own: a TOML file beside its data, or a data set of a hub; and `load_domain` for every kind."""

from __future__ import annotations

import csv
import difflib
import json
import math
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from elicit.domains.catalogue import describe, domain_names, load_catalogue
from elicit.domains.domain import Domain, Question, Row, make_domain
from elicit.domains.rules import Exclusive
from elicit.errors import DomainError

# Where a record stands in its file ("row 3 (line 4)"), and its columns.
Record = tuple[str, dict[str, Any]]

_WORDS = ("name", "data", "text", "label", "group", "id", "question", "flagged", "cleared", "licence", "notes")
_SWITCHES = ("sensitive", "exclusive")
_LISTS = ("reworded", "inverted")
_KEYS = _WORDS + _SWITCHES + _LISTS
LONGEST_NAME = 100  # characters: it becomes folders and parts of files' names
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
_HUB = re.compile(r"hub:(?P<path>[\w.-]+(/[\w.-]+)?)(:(?P<config>[^:]*)(:(?P<split>[^:]+))?)?")
_EXAMPLE = 'data = "DATA", text = "text", label = "label" and question = "Is this request harmful?"'


def load_domain(name: str | Path) -> Domain:
    """A domain by the name that users write: of the catalogue, the path of a .toml file, or hub:owner/name.

    Raises:
        DomainError: there is no such domain, or its file or rows cannot be used.
        ArtefactError: the packaged data of a catalogue domain could not be fetched.
    """
    written = str(name)
    if written.startswith("hub:"):
        return load_hub(written)
    if written in domain_names():
        return load_catalogue(written)
    path = Path(written).expanduser()
    if path.suffix == ".toml":
        return load_file(path)
    if path.suffix in (".eval", ".json") and path.is_file():
        raise DomainError(
            f"{written}: data are .jsonl, .csv or .parquet; elicit.domains.transcripts.read_transcripts makes texts of agents' logs"
        )
    if path.is_file():
        raise DomainError(
            f"{written} holds data but no question about them; write a .toml file beside it with "
            f"{_EXAMPLE.replace('DATA', path.name)}, and name that file"
        )
    describe(written)  # raises, with the closest names
    raise AssertionError("unreachable")


def load_file(path: str | Path) -> Domain:
    """A domain from a TOML file that names its data, its columns and its question.

    Keys: question and data (jsonl, csv or parquet beside the file, or hub:owner/name[:config[:split]]) are needed;
    name, text, label, group, id, flagged, cleared, licence, notes, sensitive, exclusive, reworded and inverted are optional.
    Without `label` the domain has no labels. `exclusive = true` says that at most one text of each group is flagged.
    `reworded` and `inverted` are lists of other wordings of the question, with the same and with the opposite verdict.

    Raises:
        DomainError: the file, a column or a row cannot be used; the message names the domain, the row and the remedy.
    """
    path = Path(path).expanduser()
    keys = _read_toml(path)
    name = keys.get("name", path.stem)
    _check_name(name, str(path))
    for needed in ("data", "question"):
        if needed not in keys:
            raise DomainError(f"{name}: {path} has no key {needed!r}; add {_EXAMPLE.replace('DATA', 'data.jsonl')}")
    question = Question(keys["question"], keys.get("flagged", "Yes"), keys.get("cleared", "No"))
    columns: dict[str, str] = {role: keys[role] for role in ("label", "group", "id") if role in keys}
    columns["text"] = keys.get("text", "text")
    if keys.get("exclusive") and "group" not in columns:
        raise DomainError(f"{name}: exclusive = true is about groups; name their column with the key 'group'")
    records = _read_data(name, path.parent, keys["data"], list(columns.values()))
    domain = make_domain(
        name,
        question,
        _rows(name, records, columns, question),
        licence=keys.get("licence", ""),
        sensitive=keys.get("sensitive", False),
        notes=keys.get("notes", ""),
    )
    domain = replace(domain, reworded=tuple(keys.get("reworded", ())), inverted=tuple(keys.get("inverted", ())))
    if not keys.get("exclusive"):
        return domain
    return domain.with_rules(*(Exclusive(group) for group in sorted({group for group in domain.groups if group})))


def load_hub(reference: str) -> Domain:
    """A domain from `hub:owner/name[:config[:split]]` alone, whose columns are called text and label.

    The question is made from the names of the two labels, where the data set has them: a TOML file asks a better one.

    Raises:
        DomainError: the data set cannot be loaded, or has no such columns.
    """
    name = reference.removeprefix("hub:").replace(":", "/").replace("//", "/")
    data = _open_hub(name, reference)
    _check_columns(
        name, ["text", "label"], data.column_names, f"write a .toml file that names the columns: {_EXAMPLE}", reference
    )
    labels = getattr(data.features["label"], "names", None)
    if labels is not None and len(labels) != 2:
        raise DomainError(
            f"{name}: has {len(labels)} kinds of labels, and a question has two answers; use a .toml file"
        )
    question = Question(
        f'Does the label "{labels[1]}" fit this text better than the label "{labels[0]}"?'
        if labels
        else "Should this text be flagged?"
    )
    columns = {"text": "text", "label": "label"}
    notes = "The question was made from the data set's label names; a .toml file with a question of its own is better."
    return make_domain(name, question, _rows(name, _hub_records(data, columns), columns, question), notes=notes)


def _check_name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise DomainError(
            f"{where}: the name {name!r} cannot name a folder; use at most {LONGEST_NAME} letters, digits, '_', '-' and '.', with "
            "'/' between the parts"
        )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DomainError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DomainError(f"{path}: not a readable TOML file: {error}") from error
    for key, value in keys.items():
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise DomainError(f"{path}: unknown key {key!r}{hint}; known are {', '.join(_KEYS)}")
        fits, words = _takes(key, value)
        if not fits:
            raise DomainError(f"{path}: the key {key!r} is {value!r}; it takes {words}")
    return keys


def _takes(key: str, value: Any) -> tuple[bool, str]:
    """Whether a key of a TOML file has a value of its kind, and what that kind is."""
    if key in _SWITCHES:
        return isinstance(value, bool), "true or false"
    if key in _LISTS:
        questions = isinstance(value, list) and all(isinstance(text, str) and text.strip() for text in value)
        return questions, "a list of questions in quotes"
    return isinstance(value, str), "a text in quotes"


def read_records(data: str) -> Iterable[Record]:
    """Rows of a .jsonl, .csv or .parquet file or of hub:owner/name[:config[:split]], with the place where each stands.

    Raises:
        DomainError: there is no such file or data set, or it cannot be read.
    """
    return _read_data(data, Path(), data, [])


def _read_data(name: str, folder: Path, data: str, wanted: list[str]) -> Iterable[Record]:
    """The records of a domain's data, which have the wanted columns."""
    remedy = "name one of them in the .toml file"
    if data.startswith("hub:"):
        hub = _open_hub(name, data)
        _check_columns(name, wanted, hub.column_names, remedy, data)
        return _hub_records(hub, dict.fromkeys(wanted) or hub.column_names)
    path = folder / Path(data).expanduser()
    if not path.is_file():
        raise DomainError(f"{name}: there is no data file {path}; `data` is a path beside the .toml file, or hub:…")
    try:
        if path.suffix == ".parquet":
            # Not pq.read_table: it would take a folder called a=b in the path for one more column.
            with pq.ParquetFile(path) as file:
                _check_columns(name, wanted, file.schema_arrow.names, remedy, path)
                table = file.read(columns=list(dict.fromkeys(wanted)) or None)
            return [(f"row {row}", record) for row, record in enumerate(table.to_pylist())]
        if path.suffix not in (".jsonl", ".ndjson", ".csv"):
            raise DomainError(f"{name}: {path.name} is no .jsonl, .csv or .parquet file; convert it to one of these")
        records = list(_read_csv(name, path) if path.suffix == ".csv" else _read_jsonl(name, path))
    except (OSError, pa.ArrowException, csv.Error) as error:
        raise DomainError(f"{name}: {path} cannot be read: {error}") from error
    present = list(dict.fromkeys(column for _, record in records for column in record))
    if records:
        _check_columns(name, wanted, present, remedy, path)
    return records


def _check_columns(name: str, wanted: Iterable[str], present: list[str], remedy: str, where: str | Path) -> None:
    for column in wanted:
        if column not in present:
            raise DomainError(f"{name}: {where} has no column {column!r}; it has {', '.join(present)}: {remedy}")


def _lines(name: str, path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                # surrogatepass: half of a surrogate pair is a defect of one text, not a reason to refuse the file.
                decoded = line.decode("utf-8", "surrogatepass")
            except UnicodeDecodeError as error:
                raise DomainError(f"{name}: {path} line {number} is not UTF-8 ({error}); save it as UTF-8") from None
            yield number, decoded.removeprefix("\ufeff") if number == 1 else decoded


def _read_jsonl(name: str, path: Path) -> Iterator[Record]:
    row = 0
    for number, line in _lines(name, path):
        if not line.strip():
            continue
        where = f"row {row} (line {number})"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits are no JSONDecodeError
            raise DomainError(f"{name}: {where} of {path} is not JSON: {error}; write one object per line") from None
        if not isinstance(record, dict):
            raise DomainError(f"{name}: {where} of {path} is no JSON object; write one object per line")
        yield where, record
        row += 1


def _read_csv(name: str, path: Path) -> Iterator[Record]:
    # The module's limit of 131,072 characters a field is less than one long text. It can only be set for the process.
    csv.field_size_limit(sys.maxsize)
    reader = csv.DictReader((line for _, line in _lines(name, path)), strict=True)
    for row, record in enumerate(reader):
        where = f"row {row} (line {reader.line_num})"
        if None in record:
            raise DomainError(
                f"{name}: {where} of {path} has more fields than the header; put texts with commas in double quotes"
            )
        yield where, record


def _open_hub(name: str, reference: str) -> Any:
    """A split of a data set of the hub, as a `datasets.Dataset`."""
    match = _HUB.fullmatch(reference)
    if match is None:
        raise DomainError(f"{name}: {reference!r} is not of the form hub:owner/name[:config[:split]]")
    _check_name(name, reference)
    import datasets  # slow to import, and most domains do without it

    try:
        splits = datasets.load_dataset(match["path"], match["config"] or None)
    except Exception as error:
        # The library raises errors of many unrelated types here: for the network, for names, for file formats.
        reason = str(error) or type(error).__name__
        raise DomainError(
            f"{name}: the data set {reference} could not be loaded: {reason}. Check the name and the network, "
            "or name a .toml file beside data of your own"
        ) from error
    split = match["split"] or ("train" if "train" in splits else next(iter(splits)) if len(splits) == 1 else None)
    if split is None or split not in splits:
        raise DomainError(
            f"{name}: {reference} has the splits {', '.join(splits)}; name one of them: "
            f"hub:{match['path']}:{match['config'] or ''}:SPLIT"
        )
    return splits[split]


def _hub_records(data: Any, columns: Iterable[str]) -> Iterator[Record]:
    for row, record in enumerate(data.select_columns(list(columns))):
        yield f"row {row}", record


def _rows(name: str, records: Iterable[Record], columns: dict[str, str], question: Question) -> Iterator[Row]:
    for row, (where, record) in enumerate(records):
        if columns["text"] not in record:
            raise DomainError(f"{name}: {where} has no {columns['text']!r}; every row needs the text column")
        text = record[columns["text"]]
        if not (text is None or isinstance(text, str)):
            raise DomainError(f"{name}: {where} has a {type(text).__name__} as its text; it takes a string")
        label = _label(name, where, record.get(columns["label"]), question) if "label" in columns else None
        group = _key(name, where, "group", record.get(columns["group"])) if "group" in columns else None
        own = _key(name, where, "id", record.get(columns["id"])) if "id" in columns else str(row)
        if own is None:
            raise DomainError(f"{name}: {where} has no id; fill the column {columns['id']!r} or leave `id` out")
        # A row without a text stays a row: it becomes an unscored one, and is not lost.
        yield Row(own, text or "", label, group)


def _key(name: str, where: str, role: str, value: Any) -> str | None:
    """A group or an id: a string or a whole number; empty means none."""
    if _missing(value):
        return None
    # A column of whole numbers with gaps arrives as floats.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (str, int)):
        raise DomainError(f"{name}: {where} has the {role} {value!r}; it takes a string or a whole number")
    return str(value)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and not value)


def _label(name: str, where: str, value: Any, question: Question) -> int | None:
    """1 = flagged, 0 = cleared, None = missing, from a number, a truth value or a verdict word."""
    if _missing(value) or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value in (0, 1):
        return int(value)
    written = str(value).strip().casefold() if isinstance(value, (str, bool)) else ""
    usual = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0}.get(written)
    flagged, cleared = question.flagged.strip(), question.cleared.strip()
    word = {flagged.casefold(): 1, cleared.casefold(): 0}.get(written)
    if flagged.casefold() == cleared.casefold():  # words that differ in capitals alone, such as "a" and "A"
        word = {flagged: 1, cleared: 0}.get(str(value).strip())
    if usual is not None and word is not None and usual != word:
        raise DomainError(
            f"{name}: {where} has the label {value!r}, which is the verdict word of {word} and the usual way to write "
            f"{usual}; write labels as the numbers 1 ({question.flagged}) and 0 ({question.cleared}), or choose "
            "other verdict words"
        )
    found = word if word is not None else usual
    if found is None:
        raise DomainError(
            f"{name}: {where} has the label {value!r}; labels are 1 or {flagged!r}, 0 or {cleared!r}, or missing: "
            "correct the row, or leave `label` out of the .toml file"
        )
    return found
