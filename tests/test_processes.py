"""Several processes do what one does: the same files, one writer, one error; and any number of them continues what others began."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import elicit.language_models.cache
import elicit.language_models.states
from elicit.cli import main
from elicit.errors import RunError
from elicit.language_models.local import LocalModel
from elicit.monitors import VerdictMonitor
from elicit.processes import joined, spread, together
from elicit.training import is_trained, train
from tests.runs.conftest import model_folder, rows_about, write_domain  # noqa: F401  # a fixture
from tests.training.conftest import CONFIG, domain

ROOT = Path(__file__).parents[1]


def environment(cache: Path, **more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ELICIT_CACHE": str(cache)} | more


def two(code: str, cache: Path, *arguments: object) -> list[tuple[int, str, str]]:
    """Run a program in two processes without a launcher that would end one when the other dies: code, stdout, stderr of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    started = [
        subprocess.Popen(
            command,
            env=environment(cache, RANK=rank, LOCAL_RANK=rank, **place),
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in "01"
    ]
    try:
        ended = [process.communicate(timeout=150) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *said) for process, said in zip(started, ended, strict=True)]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_alike(one: object, two: object, where: str = "") -> None:
    """Equal, but for the rounding of numbers."""
    if isinstance(one, float) and isinstance(two, float):
        assert one == pytest.approx(two, abs=2e-3, rel=2e-3), where
    elif isinstance(one, dict) and isinstance(two, dict):
        assert sorted(one) == sorted(two), where
        for key in one:
            assert_alike(one[key], two[key], f"{where}/{key}")
    elif isinstance(one, list) and isinstance(two, list):
        assert len(one) == len(two), where
        for i, pair in enumerate(zip(one, two, strict=True)):
            assert_alike(*pair, f"{where}/{i}")
    else:
        assert one == two, where


def assert_same_run(one: Path, two: Path) -> None:
    files = [{str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} for folder in (one, two)]
    assert files[0] == files[1]
    scores = [name for name in files[0] if name.startswith("scores")]
    assert len(scores) == len(METHODS)
    for name in scores:
        held = [lines(folder / name) for folder in (one, two)]
        assert [(row["id"], row["label_hat"]) for row in held[0]] == [(row["id"], row["label_hat"]) for row in held[1]]
        values = [[row["score"] for row in rows] for rows in held]
        # Rounding, next to how far the texts lie apart: the model is tiny and barely trained.
        assert np.std(values[0]) > 1e-4, name
        np.testing.assert_allclose(*values, rtol=0, atol=0.01 * np.std(values[0]), err_msg=name)
    for name in ("consistency", "self-training"):
        found = [lines(folder / "monitors" / "films" / name / "labels.jsonl") for folder in (one, two)]
        assert [(row["id"], row["label"]) for row in found[0]] == [(row["id"], row["label"]) for row in found[1]]
    assert_alike(*(json.loads((folder / "results.json").read_text()) for folder in (one, two)))


METHODS = ("transfer", "consistency", "ccs", "self-training", "verdict-target")


def test_two_processes_leave_what_one_leaves_and_one_continues_it(
    model_folder,  # noqa: F811
    tmp_path: Path,
    monkeypatch,
) -> None:
    source = write_domain(tmp_path, "phones", rows_about("phone", 80))
    target = write_domain(tmp_path, "films", rows_about("film", 120))
    # 38 examples in batches of 16: the last batch is short, and so are its shares.
    sizes = ["--source-texts", 38, "--target-texts", 42, "--epochs", 2, "--dtype", "float32", "--device", "cpu"]
    asked = ["run", "--model", model_folder, "--source", source, "--target", target, *sizes]
    asked = [str(part) for part in [*asked, *(word for name in METHODS for word in ("--method", name))]]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "elicit"]
    command = [sys.executable, *launch, *asked, "--out", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("report: ") == 1
    assert done.stderr.count("films: ccs") == 1

    main([*asked, "--out", str(tmp_path / "one")], standalone_mode=False)
    assert_same_run(tmp_path / "one", tmp_path / "two")

    # Another number of processes goes on with what is there, from the cache that two have filled as well as from none.
    run = tmp_path / "two"
    before = json.loads((run / "timings.json").read_text())["films/ccs"]["tokens"]
    for name in ("ccs", "verdict-target"):
        (run / "scores" / "films" / f"{name}.jsonl").unlink()
    for module in (elicit.language_models.cache, elicit.language_models.states):
        monkeypatch.setattr(module, "cache_dir", lambda: tmp_path / "cache")
    main([*asked, "--out", str(run)], standalone_mode=False)
    assert_same_run(tmp_path / "one", run)
    timings = json.loads((run / "timings.json").read_text())
    assert timings["films/ccs"]["tokens"] == before  # the first process wrote all that both have read


TRAIN = """
import sys
from pathlib import Path
import elicit.processes
from elicit.training import verdict_training
from tests.test_processes import train_on_two_sources

def broken(*_):
    raise ValueError("no more")

elicit.processes.GRACE = 3.0
with elicit.processes.joined():
    verdict_training._Stage._keep = broken  # in the first process: the second is in `joined` until the end
    train_on_two_sources(sys.argv[1], Path(sys.argv[2]))
"""


def train_on_two_sources(model: str, folder: Path) -> None:
    base = VerdictMonitor(LocalModel.load(model, "float32", "cpu"))
    sources = [domain("film", 40), domain("book", 23, "Is the book good?")]
    train(base, sources, folder, CONFIG, validation=[domain("phone", 24)])


def test_training_that_broke_off_in_two_processes_is_finished_by_one(model_folder, tmp_path: Path) -> None:  # noqa: F811
    (code, _, said), (other, *_) = two(TRAIN, tmp_path, model_folder, tmp_path / "both")
    assert code != 0
    assert other != 0
    assert "answers no more (no more)" in said
    assert list((tmp_path / "both" / "checkpoints").glob("checkpoint-*"))
    assert not is_trained(tmp_path / "both")
    histories, weights = [], []
    for folder in (tmp_path / "both", tmp_path / "one"):
        train_on_two_sources(str(model_folder), folder)
        histories.append(json.loads((folder / "training_history.json").read_text())["history"][0])
        weights.append(load_file(folder / "adapter_model.safetensors"))
    assert_alike(*histories)
    assert any("eval_auroc" in row for row in histories[0])
    assert weights[0].keys() == weights[1].keys()
    for name, values in weights[0].items():
        np.testing.assert_allclose(values, weights[1][name], rtol=1e-5, atol=1e-3, err_msg=name)


BROKEN = """
import sys
from pathlib import Path
import click
from elicit.cli import ErrorGroup
from elicit.files import read_json
from elicit.processes import spread

@click.group(cls=ErrorGroup)
def main():
    pass

@main.command()
@click.argument("files", nargs=2)
def read(files):
    click.echo(spread(read_json, [(Path(file),) for file in files]))

main()
"""


def test_an_error_in_one_process_ends_both_with_one_message(tmp_path: Path) -> None:
    (tmp_path / "whole.json").write_text("{}")
    (tmp_path / "half.json").write_text("{")
    first, second = two(BROKEN, tmp_path, "read", tmp_path / "whole.json", tmp_path / "half.json")
    assert first[:2] == (1, "")
    assert len(first[2].splitlines()) == 1
    assert "half.json is damaged" in first[2]
    assert second == (0, "", "")


CALLS = """
from elicit.processes import count, joined, spread, together

def rank():
    return "int(__import__('os').environ['RANK'])"

with joined():
    print(count(), spread(eval, [(rank(),), (rank(),)]), together(eval, rank()))
    for code in ("1 / 0", "open('')"):
        try:
            spread(eval, [("1",), (code,)])
        except (OSError, RuntimeError) as error:
            print(f"{type(error).__name__}: {error}", error.__notes__[0].splitlines()[0])
    print(spread(eval, [("3",), ("4",)]))
    spread(eval, [("1",), ("__import__('os')._exit(3)",)])
"""


def test_calls_reach_other_processes_and_their_errors_come_back(tmp_path: Path) -> None:
    (code, out, said), (other, *silent) = two(CALLS, tmp_path)
    # A kind of error that the project acts on stays what it was.
    errors = ["RuntimeError: ZeroDivisionError: division by zero", "OSError: [Errno 2] No such file or directory: ''"]
    assert out.splitlines() == ["2 [0, 1] 0", *(f"{error} in process 1:" for error in errors), "[3, 4]"]
    assert code == 1
    assert "RunError: one of the processes was lost" in said
    assert (other, *silent) == (3, "", "")


def test_a_program_of_one_process_spreads_nothing_and_trains_whole_weights(tmp_path, monkeypatch) -> None:
    with joined():
        assert spread(divmod, [(7, 2)]) == [(3, 1)]
        assert together(divmod, 7, 2) == (3, 1)
    with monkeypatch.context() as patch:
        patch.setenv("ACCELERATE_USE_FSDP", "true")
        with pytest.raises(RunError, match="ZeRO-3 leave a part of the weights"):
            train(None, [], tmp_path)  # type: ignore[arg-type]  # neither is looked at
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="the 2 processes that WORLD_SIZE announces cannot be joined"), joined():
        pass
    with pytest.raises(RunError, match=r"put the program into `with elicit.processes.joined\(\):`"):
        train(None, [], tmp_path)  # type: ignore[arg-type]  # neither is looked at
