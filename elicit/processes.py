"""Several processes, one program: the first runs it, and the others take their share of what the language model has to do.

`torchrun` and `accelerate launch` start one command several times. Were each copy to run it, all would have to come to the
same decisions from caches, files and rounding errors that may differ. So one process, rank 0, runs the command as it would alone:
it alone reads caches, decides, and writes files. The others wait for calls: a function of theirs and what to call it with. All
processes must see the same file system, on which models and adapters are.

Processes know each other by WORLD_SIZE and RANK, which those two launchers set. Slurm's `srun` alone sets neither; under Slurm, one
task per machine starts a launcher: `srun torchrun …`.

    with joined():                       # at the start of the program, in all processes; only in the first does it go on
        found = spread(work, shares)     # work(*shares[0]) here, work(*shares[1]) in the second process, …
        together(train, …)               # the same call everywhere, for what synchronises itself
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from elicit.errors import ElicitError, RunError

T = TypeVar("T")
NEVER = timedelta(days=365)  # a share may take as long as it takes; when a process dies, its messages end at once
GRACE = 60.0  # seconds for the others to come to the error that a call ended with here


class _Links:
    """Messages between the processes of one launch: objects as torch.distributed passes them, which are never stored."""

    def __init__(self, size: int) -> None:
        import torch  # not needed by a program of one process until it loads a model
        from torch import distributed

        self._distributed = distributed
        # Gradients go over a GPU's own network.
        way = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            distributed.init_process_group(way)
        except (ValueError, RuntimeError) as error:
            raise RunError(
                f"the {size} processes that WORLD_SIZE announces cannot be joined ({str(error).splitlines()[0]}); start them with "
                "torchrun or accelerate launch, or unset WORLD_SIZE"
            ) from error
        self._group = distributed.new_group(backend="gloo", timeout=NEVER)
        self.size = size
        self.busy = False  # while a call is under way, what it calls stays in this process
        self.whole = True  # False once a process was lost, or left in the middle of a call

    def send(self, to: int, content: Any, wait: float | None = None) -> None:
        """Raises RuntimeError where the other process is gone, or does not listen within `wait` seconds."""
        _within(wait, lambda: self._distributed.send_object_list([content], to, self._group))

    def receive(self, source: int, wait: float | None = None) -> Any:
        """Raises RuntimeError where the other process is gone, or says nothing within `wait` seconds."""
        held = [None]
        _within(wait, lambda: self._distributed.recv_object_list(held, source, self._group))
        return held[0]

    def close(self) -> None:
        self._distributed.destroy_process_group()


def _within(wait: float | None, action: Callable[[], Any]) -> None:
    """Do it, and raise RuntimeError if it takes longer than so many seconds: a collective cannot be told for how long to wait."""
    if wait is None:
        action()
        return
    failed: list[Exception] = []

    def attempt() -> None:
        try:
            action()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(wait)
    if thread.is_alive():
        raise RuntimeError(f"no answer within {wait:.0f} s")
    if failed:
        raise failed[0]


_links: _Links | None = None  # of the first process
_for_another = False


def count() -> int:
    """How many processes a call can be spread over now: 1 in a program of one process, and within a call."""
    return _links.size if _links is not None and not _links.busy else 1


def works_for_another() -> bool:
    """Whether this process only answers calls of the first one."""
    return _for_another


def check_joined() -> None:
    """Refuse what all processes have to do together in a program that did not join them.

    Raises:
        RunError: a launcher started several processes, and each goes its own way.
    """
    if _launched() > 1 and _links is None and not _for_another:
        raise RunError("several processes were started; put the program into `with elicit.processes.joined():`")


def _launched() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that a launcher started. The block runs in the first of them; the others work for it and then exit.

    Without a launcher, or in a block within a block, nothing happens.
    """
    global _links
    size, rank = _launched(), int(os.environ.get("RANK", "0"))
    if size == 1 or _links is not None:
        yield
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # each process would note what is normal
    if rank:
        _work_for_the_first(size, rank)
    _links = _Links(size)
    try:
        yield
    except KeyboardInterrupt:
        _links.whole = False
        raise
    finally:
        links, _links = _links, None
        # Processes that are not told to stop end with their launcher, or as soon as this one is gone.
        for other in range(1, size) if links.whole else ():
            with suppress(RuntimeError):
                links.send(other, None, GRACE)
        if links.whole:
            links.close()


def spread(work: Callable[..., T], shares: Sequence[tuple[Any, ...]]) -> list[T]:
    """`[work(*share) for share in shares]`, each in a process of its own, the first in this one.

    Args:
        work: a function of a module, which all processes find there.
        shares: at most `count()` tuples of arguments that a process can send to another.

    Raises:
        RunError: a process was lost.
        Exception: the first error of a share.
    """
    return _call(work, shares, False) if len(shares) > 1 else [work(*share) for share in shares]


def together(work: Callable[..., T], *arguments: Any) -> T:
    """What `work(*arguments)` returns here, while all other processes call it too: for work that synchronises itself.

    Raises:
        RunError: a process was lost.
        Exception: the first error of a process.
    """
    return _call(work, [arguments] * count(), True)[0] if count() > 1 else work(*arguments)


def _call(work: Callable[..., T], shares: Sequence[tuple[Any, ...]], joint: bool) -> list[T]:
    assert _links is not None
    links, others = _links, range(1, len(shares))
    if not links.whole:  # what was left in the middle of a call would take the next one's messages for its own
        raise RunError("one of the processes was lost before; run the same command again")
    links.busy = True
    error: Exception | None = None
    found: list[Any] = []
    try:
        for other in others:
            links.send(other, joint)  # on its own: known even where the arguments cannot be made
            links.send(other, (work, shares[other]))
        try:
            found.append(work(*shares[0]))
        except Exception as caught:
            error = caught
        for other in others:
            # In a joint call that failed here, others may be waiting for this process, and nothing would ever come.
            value, failed = links.receive(other, GRACE if joint and error is not None else None)
            found.append(value)
            if failed is not None and (error is None or not isinstance(error, ElicitError)):
                theirs = failed.raised()
                # What a collective says here of a process that failed there is not the reason.
                error = theirs if error is None or isinstance(theirs, ElicitError) else error
    except RuntimeError as lost:
        links.whole = False
        why = f" ({error})" if error is not None else ""
        raise RunError(f"one of the processes was lost or answers no more{why}; run the same command again") from lost
    finally:
        links.busy = False
    if error is not None:
        raise error
    return found


def _work_for_the_first(size: int, rank: int) -> NoReturn:
    """Answer calls until there are no more, and exit. This process says nothing: what matters, the first one says."""
    global _for_another
    _for_another = True
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ |= {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    logging.disable()
    warnings.simplefilter("ignore")
    links = _Links(size)
    while True:
        found, failed = None, None
        try:
            joint = links.receive(0)
            if joint is None:
                links.close()
                sys.exit(0)
            work, arguments = links.receive(0)
        except RuntimeError:  # the first process is gone
            sys.exit(1)
        except Exception as error:  # what was sent cannot be made here: a model whose files differ, say
            failed = _Failed.of(error, rank)
        else:
            try:
                found = work(*arguments)
            except Exception as error:
                failed = _Failed.of(error, rank)
        try:
            links.send(0, (None if joint else found, failed), GRACE if joint and failed is not None else None)
        except RuntimeError:
            # The first process is gone, or it waits within a call for this one, which will never come.
            sys.exit(f"Error in process {rank}: {failed.message}" if failed is not None else 1)


@dataclass(frozen=True)
class _Failed:
    """An error as words, from which the first process raises one of the same kind."""

    kind: type[Exception]
    message: str
    where: str

    @classmethod
    def of(cls, error: Exception, rank: int) -> _Failed:
        where = f"in process {rank}:\n{traceback.format_exc()}"
        # Of a kind that is made from its message alone; the first process tells these from each other.
        for kind in type(error).__mro__:
            if issubclass(kind, ElicitError) or kind in (OSError, ValueError):
                return cls(kind, str(error), where)
        return cls(RuntimeError, f"{type(error).__name__}: {error}", where)

    def raised(self) -> Exception:
        error = self.kind(self.message)
        error.add_note(self.where)
        return error
