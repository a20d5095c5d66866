"""The default model, and an adapter that is trained here, behind a server of vLLM: `make test-vllm` runs this.

ELICIT_TEST_VLLM names the Python that has vLLM: it wants other versions of other packages, so it has an environment of its own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from elicit.domains import load_domain
from elicit.errors import ModelError
from elicit.evaluation.parity import compare, parity
from elicit.language_models.endpoint import EndpointModel
from elicit.language_models.loading import DEFAULT_MODEL, find_model
from elicit.language_models.local import LocalModel
from elicit.monitors import VerdictMonitor, load_monitor
from elicit.training import TrainingConfig, train_monitor

PYTHON = os.environ.get("ELICIT_TEST_VLLM", "")
DOMAIN = "vader/amazon"
WAIT = 600.0  # seconds for the server to come up
pytestmark = pytest.mark.skipif(not PYTHON, reason="`make test-vllm` installs vLLM and runs these")


@pytest.fixture(scope="module")
def local() -> LocalModel:
    return LocalModel.load(DEFAULT_MODEL, "float32", "cpu")


@pytest.fixture(scope="module")
def trained(local: LocalModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a monitor whose adapter has learnt a little."""
    folder = tmp_path_factory.mktemp("trained")
    source = load_domain(DOMAIN).train.sample(64)
    monitor = train_monitor(VerdictMonitor(local), [source], folder / "training", TrainingConfig(texts=64, epochs=1))
    monitor.question = source.question
    monitor.save(folder / "monitor")
    return folder / "monitor"


@pytest.fixture(scope="module")
def url(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "log"
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model", find_model(DEFAULT_MODEL), "--served-model-name", DEFAULT_MODEL, "--dtype", "float32"]
    command += ["--enforce-eager", "--max-model-len", "2048", "--enable-lora", "--max-lora-rank", "16"]
    command += ["--lora-modules", f"trained={trained / 'adapter'}"]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("wb") as sink:
        running = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=environment, cwd=log.parent)
    try:
        _wait_for(running, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        running.terminate()
        running.wait(60)


def _wait_for(running: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + WAIT
    while time.monotonic() < end and running.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(1)
    pytest.fail(f"vLLM did not come up:\n{log.read_text(errors='replace')[-3000:]}")


def test_the_model_and_its_adapter_score_as_they_do_here(url: str, trained: Path) -> None:
    served = []
    for name, against in ((DEFAULT_MODEL, DEFAULT_MODEL), ("trained", str(trained))):
        found = compare(f"endpoint:{url}#{name}", against, DOMAIN, "float32", "cpu")
        print(name, *found.plain_words(), sep="\n")
        assert found.alike
        assert len(found.difference) == 64
        assert found.tokens is not None
        assert all(found.tokens)
        assert found.template
        served.append(found.served)
    assert np.abs(served[0] - served[1]).max() > 1.0  # the adapter is applied


def test_a_monitor_with_an_adapter_is_scored_where_its_adapter_is_served(
    url: str, trained: Path, local: LocalModel
) -> None:
    texts = load_domain(DOMAIN).test.sample(8)
    served = load_monitor(trained, f"endpoint:{url}#trained")
    assert isinstance(served, VerdictMonitor)
    assert served.score(texts.texts).scored.all()
    assert parity(served.model, load_monitor(trained, dtype="float32", device="cpu").model, texts).alike
    with pytest.raises(ModelError, match="is served without the adapter"):
        load_monitor(trained, f"endpoint:{url}#{DEFAULT_MODEL}")


def test_words_and_log_likelihoods_are_those_of_the_model_here(url: str, local: LocalModel) -> None:
    model = EndpointModel.load(f"endpoint:{url}#{DEFAULT_MODEL}")
    messages = ["What is the capital of France?", "Count from one to three."]
    assert model.answer(messages, 12) == local.answer(messages, 12)
    pairs = [("Hello", "Hello! How can I help you?"), ("Two and two?", "Four.")]
    for there, here in zip(model.response_log_likelihoods(pairs), local.response_log_likelihoods(pairs), strict=True):
        assert there == pytest.approx(here, abs=1e-2)
    drawn = [model.generate("Describe it.", ["a kettle"], 6, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
