"""The catalogue: labelled domains that are read out of packaged artefacts, one file per family."""

from __future__ import annotations

import difflib
import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from elicit.domains.artefacts import atomic_write, cache_dir, fetch
from elicit.domains.catalogue import facts, injection, pyrit, sarcasm, spam, vader, web_policy
from elicit.domains.catalogue.entry import Entry
from elicit.domains.domain import Domain, Row, make_domain
from elicit.errors import DomainError

__all__ = ["Entry", "describe", "domain_names", "load_catalogue"]

_log = logging.getLogger(__name__)

_FAMILIES = (vader, pyrit, injection, web_policy, spam, sarcasm, facts)
_ENTRIES: dict[str, Entry] = {entry.name: entry for family in _FAMILIES for entry in family.ENTRIES}
_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.int8()), ("group", pa.string())])


def domain_names() -> list[str]:
    """Names of the domains in the catalogue, family by family."""
    return list(_ENTRIES)


def describe(name: str) -> Entry:
    """What is known about a domain of the catalogue without fetching it.

    Raises:
        DomainError: there is no domain of that name; the message names the closest ones.
    """
    if name in _ENTRIES:
        return _ENTRIES[name]
    close = difflib.get_close_matches(name, _ENTRIES, n=3, cutoff=0.5)
    close += [other for other in _ENTRIES if other.endswith(f"/{name}") and other not in close]
    hint = f"did you mean {' or '.join(close)}?" if close else "`elicit domains` lists the catalogue."
    raise DomainError(
        f"{name!r} is no domain of the catalogue: {hint} A domain of your own is the path of a .toml file "
        "or hub:owner/name"
    )


def load_catalogue(name: str) -> Domain:
    """A domain of the catalogue; its artefact is fetched the first time.

    Raises:
        DomainError: there is no domain of that name.
        ArtefactError: its artefact could not be fetched or read.
    """
    entry = describe(name)
    domain = make_domain(
        entry.name, entry.question, _rows(entry), licence=entry.licence, sensitive=entry.sensitive, notes=entry.notes
    )
    return replace(domain, reworded=entry.reworded, inverted=entry.inverted)


def _rows(entry: Entry) -> list[Row]:
    """The rows of an entry, from the Parquet file in the cache where there is one."""
    key = hashlib.sha256(f"{entry.name}\n{entry.artefact.sha256}\n{entry.version}".encode()).hexdigest()[:16]
    path = cache_dir() / "domains" / f"{entry.name.replace('/', '-')}-{key}.parquet"
    try:
        # Not pq.read_table: it would take a folder called a=b in the path for one more column.
        with pq.ParquetFile(path) as file:
            columns = [column.to_pylist() for column in file.read().cast(_SCHEMA).columns]
        return [Row(*values) for values in zip(*columns, strict=True)]
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        _log.warning("%s: the rows in the cache cannot be read (%s): parsing them again", entry.name, error)
    rows = list(entry.parse(fetch(entry.artefact)))
    _keep(path, rows)
    return rows


def _keep(path: Path, rows: list[Row]) -> None:
    columns = {
        "id": [row.id for row in rows],
        "text": [row.text for row in rows],
        "label": [row.label for row in rows],
        "group": [row.group for row in rows],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as out:
            pq.write_table(pa.table(columns, schema=_SCHEMA), out, compression="zstd")
    except OSError as error:
        # The rows are in memory: a cache that cannot be written costs time on the next load, and nothing else.
        _log.warning("cannot keep parsed rows in %s: %s", path.parent, error)
