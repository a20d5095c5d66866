"""The engine against the model's own forward pass, for every way in which architectures come to their logits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from elicit.language_models import engine as engine_module
from elicit.language_models.engine import Engine, expand_cache
from tests.language_models.reference import (
    CLOSE,
    FAST,
    PREFIX,
    SUFFIXES,
    VERDICT,
    assert_same_states,
    ends,
    engine_states,
    own_log_odds,
    own_logits,
    own_states,
    sequences,
    with_lora,
)

TWO_PASSES = ("bloom", "mpt")  # ALiBi, where a key's place is its position
PLAIN = ("opt-projected", "opt-post-norm", "mamba")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TestLogOdds:
    @pytest.mark.parametrize("lora", [False, True], ids=["bare", "lora"])
    @pytest.mark.parametrize("prefix", [[], PREFIX], ids=["no prefix", "prefix"])
    @pytest.mark.parametrize("architecture", FAST)
    def test_equal_to_the_models_own_logits(self, make_model, architecture, prefix, lora):
        model = make_model(architecture)
        if lora:
            model = with_lora(model)
        expected = [own_log_odds(model, [*prefix, *suffix]) for suffix in SUFFIXES]
        assert np.std(expected) > 0.1  # else equality would be cheap
        for budget in (1, 4096):  # one text per batch, and all in one
            engine = Engine(model, budget=budget)
            read = engine.log_odds(prefix, SUFFIXES, ends(SUFFIXES), VERDICT)
            np.testing.assert_allclose(np.concatenate(read), expected, **CLOSE)

    @pytest.mark.parametrize("architecture", [*FAST, *PLAIN])
    def test_the_check_knows_which_path_is_right(self, make_model, architecture):
        model = make_model(architecture)
        engine = Engine(model)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            difference = engine.check(PREFIX, SUFFIXES, VERDICT)
        assert engine.fast == (architecture in FAST)
        assert [entry.category for entry in caught] == ([] if engine.fast else [RuntimeWarning])
        if engine.fast:
            assert difference < 1e-4
        expected = [own_log_odds(model, [*PREFIX, *suffix]) for suffix in SUFFIXES]
        read = engine.log_odds(PREFIX, SUFFIXES, ends(SUFFIXES), VERDICT)
        np.testing.assert_allclose(np.concatenate(read), expected, **CLOSE)

    @pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3", "opt-projected"])
    def test_several_positions_of_one_sequence(self, make_model, architecture):
        model = make_model(architecture)
        engine = Engine(model)
        engine.fast = architecture in FAST
        reads = [sorted({0, len(suffix) // 2, len(suffix) - 1}) for suffix in SUFFIXES]
        read = engine.log_odds(PREFIX, SUFFIXES, reads, VERDICT)
        for suffix, positions, values in zip(SUFFIXES, reads, read, strict=True):
            logits = own_logits(model, [*PREFIX, *suffix])[[len(PREFIX) + at for at in positions]]
            own = logits[:, VERDICT.flagged] - logits[:, VERDICT.cleared]
            np.testing.assert_allclose(values, own.numpy(), **CLOSE)

    @pytest.mark.parametrize("architecture", ["llama", "gemma2", "cohere", "granite", "phi", "opt-projected"])
    def test_verdict_mass_is_that_of_the_full_softmax(self, make_model, architecture):
        model = make_model(architecture)
        engine = Engine(model)
        engine.fast = architecture in FAST
        mass = {0: np.nan, 4: np.nan, 7: np.nan}
        engine.log_odds(PREFIX, SUFFIXES, ends(SUFFIXES), VERDICT, mass=mass)
        assert set(mass) == {0, 4, 7}
        for row, value in mass.items():
            share = own_logits(model, [*PREFIX, *SUFFIXES[row]])[-1].softmax(-1)
            assert value == pytest.approx(float(share[VERDICT.flagged] + share[VERDICT.cleared]), abs=1e-5)

    def test_results_do_not_depend_on_order_or_company(self, make_model):
        engine = Engine(make_model())
        together = engine.log_odds(PREFIX, SUFFIXES, ends(SUFFIXES), VERDICT)
        backwards = engine.log_odds(PREFIX, SUFFIXES[::-1], ends(SUFFIXES[::-1]), VERDICT)[::-1]
        alone = [engine.log_odds(PREFIX, [suffix], ends([suffix]), VERDICT)[0] for suffix in SUFFIXES]
        np.testing.assert_allclose(together, backwards, **CLOSE)
        np.testing.assert_allclose(together, alone, **CLOSE)
        np.testing.assert_array_equal(together, engine.log_odds(PREFIX, SUFFIXES, ends(SUFFIXES), VERDICT))

    def test_no_sequences(self, make_model):
        engine = Engine(make_model())
        assert engine.log_odds(PREFIX, [], [], VERDICT) == []
        assert list(engine.contrast_states(PREFIX, [], VERDICT, [0])) == []

    def test_the_prefix_goes_through_the_model_once(self, make_model):
        engine = Engine(make_model())
        equal = sequences([10] * 50)
        engine.log_odds(PREFIX, equal, ends(equal), VERDICT)
        assert engine.meter.tokens == len(PREFIX) + 500

    def test_progress_counts_every_sequence_once(self, make_model):
        for fast in (True, False):
            engine, steps = Engine(make_model(), budget=256), []
            engine.fast = fast
            engine.log_odds(PREFIX, SUFFIXES * 9, ends(SUFFIXES * 9), VERDICT, steps.append)
            assert sum(steps) == len(SUFFIXES) * 9
            assert len(steps) > 2

    def test_bfloat16_ranks_as_float32_does(self, make_model):
        suffixes = sequences([20] * 200)
        exact = np.concatenate(Engine(make_model()).log_odds(PREFIX, suffixes, ends(suffixes), VERDICT))
        engine = Engine(make_model().to(torch.bfloat16))
        assert engine.check(PREFIX, suffixes[:4], VERDICT) < 1
        assert engine.fast
        rough = np.concatenate(engine.log_odds(PREFIX, suffixes, ends(suffixes), VERDICT))
        assert len(set(rough.tolist())) == 200  # the head is in float32: no ties
        assert np.corrcoef(exact, rough)[0, 1] > 0.995


class TestFallback:
    def test_a_disagreement_is_said_once_and_the_plain_path_taken(self, make_model):
        model = make_model()

        class Doubled(type(model)):  # logits that the engine cannot know of
            def forward(self, *args, **kwargs):
                out = super().forward(*args, **kwargs)
                out.logits = 2 * out.logits
                return out

        model.__class__ = Doubled
        engine = Engine(model)
        with pytest.warns(RuntimeWarning, match=r"^Doubled runs on the plain path \(on the fast one its log") as caught:
            assert engine.check(PREFIX, SUFFIXES, VERDICT) > 0.1
        assert len(caught) == 1
        assert not engine.fast
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read = engine.log_odds(PREFIX, SUFFIXES, ends(SUFFIXES), VERDICT)
        expected = [own_log_odds(model, [*PREFIX, *suffix]) for suffix in SUFFIXES]
        np.testing.assert_allclose(np.concatenate(read), expected, **CLOSE)

    def test_a_factor_is_seen_in_bfloat16_where_it_moves_small_log_odds_by_less_than_rounding_may(self, make_model):
        model = make_model().to(torch.bfloat16)

        class Raised(type(model)):
            def forward(self, *args, **kwargs):
                out = super().forward(*args, **kwargs)
                out.logits = 1.25 * out.logits
                return out

        assert Engine(model).check(PREFIX, SUFFIXES, VERDICT) < 1
        model.__class__ = Raised
        engine = Engine(model)
        with pytest.warns(RuntimeWarning, match="of their norm"):
            assert engine.check(PREFIX, SUFFIXES, VERDICT) < 1
        assert not engine.fast

    def test_rounding_of_a_model_that_is_sure_is_no_disagreement_and_a_wrong_position_is_one(self, make_model):
        model = make_model().to(torch.bfloat16)
        with torch.no_grad():
            model.get_decoder().norm.weight.mul_(40)  # log-odds of tens
        engine = Engine(model)
        assert engine.check(PREFIX, SUFFIXES, VERDICT) > 128 * torch.finfo(torch.bfloat16).eps
        assert engine.fast
        own = engine._own_logits(PREFIX, SUFFIXES, VERDICT)
        engine._own_logits = lambda *_: own.roll(1, 0)
        with pytest.warns(RuntimeWarning, match="plain path"):
            engine.check(PREFIX, SUFFIXES, VERDICT)
        assert not engine.fast

    def test_logits_that_are_no_numbers(self, make_model):
        model = make_model()
        with torch.no_grad():
            model.get_decoder().norm.weight.fill_(float("nan"))
        engine = Engine(model)
        with pytest.warns(RuntimeWarning, match="differ by nan"):
            engine.check(PREFIX, SUFFIXES, VERDICT)
        assert not engine.fast


class TestContrastStates:
    @pytest.mark.parametrize("lora", [False, True], ids=["bare", "lora"])
    @pytest.mark.parametrize("prefix", [[], PREFIX], ids=["no prefix", "prefix"])
    @pytest.mark.parametrize("architecture", [*FAST, *PLAIN])
    def test_equal_to_two_plain_passes(self, make_model, architecture, prefix, lora):
        model = make_model(architecture)
        if lora and architecture == "mamba":
            pytest.skip("PEFT has no LoRA for some of its layers")
        if lora:
            model = with_lora(model)
        engine = Engine(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            engine.check(prefix, SUFFIXES, VERDICT)
            states = engine_states(engine, prefix, SUFFIXES, [2, 0])
        assert states.shape == (len(SUFFIXES), 3, 2, 32)
        for suffix, found in zip(SUFFIXES, states, strict=True):
            flagged = own_states(model, [*prefix, *suffix, VERDICT.flagged], [2, 0])
            cleared = own_states(model, [*prefix, *suffix, VERDICT.cleared], [2, 0])
            assert_same_states(found, torch.stack([flagged[-2], flagged[-1], cleared[-1]]))

    @pytest.mark.parametrize("architecture", [*FAST, *PLAIN])
    def test_log_odds_come_with_the_states_and_equal_those_without(self, make_model, architecture):
        engine = Engine(make_model(architecture))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            engine.check(PREFIX, SUFFIXES, VERDICT)
            odds: dict[int, float] = {}
            parts = list(engine.contrast_states(PREFIX, SUFFIXES, VERDICT, [0], odds=odds))
            alone = engine.log_odds(PREFIX, SUFFIXES, [[len(suffix) - 1] for suffix in SUFFIXES], VERDICT)
        assert sorted(row for rows, _ in parts for row in rows) == list(range(len(SUFFIXES)))
        np.testing.assert_allclose([odds[row] for row in range(len(SUFFIXES))], np.concatenate(alone), atol=1e-4)

    def test_layers_above_the_last_one_asked_for_are_not_run(self, make_model):
        engine = Engine(make_model("llama"))
        engine_states(engine, [], SUFFIXES, [0, 1])
        ran: list[int] = []
        for layer, module in enumerate(engine.layers):
            module.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
        engine_states(engine, [], SUFFIXES, [1])
        assert set(ran) == {0, 1}

    @pytest.mark.parametrize("architecture", FAST)
    def test_one_pass_where_it_is_right(self, make_model, architecture):
        model, engine = make_model(architecture), Engine(make_model(architecture))
        short = sequences([5, 9, 12, 1])  # within every sliding window
        right = architecture not in TWO_PASSES
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            states = [engine_states(engine, [], short, [0, 2]) for _ in range(2)][1]
        assert engine.one_pass == right
        assert [entry.category for entry in caught] == ([] if right else [RuntimeWarning])  # said once
        assert all("reads contrast pairs in two passes" in str(entry.message) for entry in caught)
        for suffix, found in zip(short, states, strict=True):
            flagged = own_states(model, [*suffix, VERDICT.flagged], [0, 2])
            cleared = own_states(model, [*suffix, VERDICT.cleared], [0, 2])
            assert_same_states(found, torch.stack([flagged[-2], flagged[-1], cleared[-1]]))

    @pytest.mark.parametrize("window", [20, 24, 63, 64, 65])
    @pytest.mark.parametrize("architecture", ["mistral-window", "gemma3"])
    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_at_the_edge_of_a_sliding_window(self, make_model, architecture, window):
        model = make_model(architecture, sliding_window=window)
        engine = Engine(model)
        states = engine_states(engine, PREFIX, SUFFIXES, [1, 2])  # the longest is 23 + 40 + 1 = 64 tokens
        tokens = engine.meter.tokens
        engine_states(engine, PREFIX, SUFFIXES, [1, 2])
        together = engine.meter.tokens - tokens == len(PREFIX) + len(SUFFIXES) * 42
        assert together == (window >= 64)
        for suffix, found in zip(SUFFIXES, states, strict=True):
            flagged = own_states(model, [*PREFIX, *suffix, VERDICT.flagged], [1, 2])
            cleared = own_states(model, [*PREFIX, *suffix, VERDICT.cleared], [1, 2])
            assert_same_states(found, torch.stack([flagged[-2], flagged[-1], cleared[-1]]))

    @pytest.mark.parametrize("mistake", ["leak", "position"])
    def test_one_pass_that_is_wrong_is_noticed(self, make_model, monkeypatch, mistake):
        right = engine_module._contrast_mask

        def wrong(lengths, width, prefix, dtype):
            mask, positions = right(lengths, width, prefix, dtype)
            for row, length in enumerate(lengths):
                if mistake == "leak":  # the second answer sees the first
                    mask[row, 0, length + 1, prefix + length] = 0
                else:
                    positions[row, length + 1] += 1
            return mask, positions

        engine = Engine(make_model("gpt2"))
        expected = engine_states(engine, PREFIX, SUFFIXES, [0, 1, 2])
        assert engine.one_pass
        monkeypatch.setattr(engine_module, "_contrast_mask", wrong)
        engine = Engine(engine.model)
        with pytest.warns(
            RuntimeWarning, match=r"^GPT2LMHeadModel reads contrast pairs in two passes \(the hidden states"
        ):
            found = engine_states(engine, PREFIX, SUFFIXES, [0, 1, 2])
        assert not engine.one_pass
        assert_same_states(found, expected)

    @pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "gpt-neox"])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_rounding_is_no_mistake(self, make_model, architecture, dtype):
        engine = Engine(make_model(architecture).to(dtype))
        states = engine_states(engine, [], sequences([5, 9, 12, 1]), [0, 1, 2])
        assert engine.one_pass
        assert states.dtype == dtype

    def test_longer_sequences_are_compared_again(self, make_model, monkeypatch):
        engine, compared = Engine(make_model()), []
        monkeypatch.setattr(engine, "_compare", lambda *_: compared.append(True) or True)
        for length in (10, 5, 10, 20, 20):
            engine_states(engine, PREFIX, sequences([length, 3]), [0])
        assert len(compared) == 2

    def test_equal_to_output_hidden_states(self, make_model):
        # hidden_states[i + 1] is the output of layer i, but for the last, which the final norm has changed.
        model = make_model()
        states = engine_states(Engine(model), PREFIX, SUFFIXES, [0, 1])
        for suffix, found in zip(SUFFIXES, states, strict=True):
            for side, answer in ((1, VERDICT.flagged), (2, VERDICT.cleared)):
                with torch.no_grad():
                    out = model(torch.tensor([[*PREFIX, *suffix, answer]]), output_hidden_states=True).hidden_states
                assert_same_states(found[side], torch.stack([out[1][0, -1], out[2][0, -1]]))

    def test_a_pair_costs_one_prompt(self, make_model):
        engine = Engine(make_model())
        equal = sequences([10] * 50)
        engine_states(engine, PREFIX, equal, [1])  # which also compares one pass with two, once
        first = engine.meter.tokens
        engine_states(engine, PREFIX, equal, [1])
        assert engine.meter.tokens - first == len(PREFIX) + 50 * 12

    def test_budget_and_order_do_not_matter(self, make_model):
        engine, narrow = Engine(make_model("gpt2")), Engine(make_model("gpt2"), budget=1)
        wide = engine_states(engine, PREFIX, SUFFIXES, [0, 1, 2])
        assert_same_states(wide, engine_states(narrow, PREFIX, SUFFIXES, [0, 1, 2]))
        assert_same_states(wide, engine_states(engine, PREFIX, SUFFIXES[::-1], [0, 1, 2]).flip(0))


class TestMemory:
    @pytest.mark.parametrize("most", [1, 3])
    def test_an_engine_out_of_memory_gives_the_same_results(self, make_model, most):
        engine = Engine(make_model())
        log_odds = engine.log_odds(PREFIX, SUFFIXES, ends(SUFFIXES), VERDICT)
        states = engine_states(engine, PREFIX, SUFFIXES, [0, 2])
        forward = engine.model.get_decoder().layers[1].register_forward_pre_hook(self._full_above(most))
        np.testing.assert_allclose(log_odds, engine.log_odds(PREFIX, SUFFIXES, ends(SUFFIXES), VERDICT), **CLOSE)
        assert_same_states(states, engine_states(engine, PREFIX, SUFFIXES, [0, 2]))
        forward.remove()

    @staticmethod
    def _full_above(most: int):
        def hook(_module, inputs):
            if len(inputs[0]) > most:
                raise torch.OutOfMemoryError("out of memory")

        return hook

    def test_a_cache_is_shared_and_stays_as_it_was(self, make_model):
        model = make_model()
        with torch.no_grad():
            cache = model.get_decoder()(input_ids=torch.tensor([PREFIX]), use_cache=True).past_key_values
            wide = expand_cache(cache, 5)
            assert wide.layers[0].keys.data_ptr() == cache.layers[0].keys.data_ptr()
            model.get_decoder()(input_ids=torch.zeros(5, 3, dtype=torch.long), past_key_values=wide, use_cache=True)
        assert wide.get_seq_length() == len(PREFIX) + 3
        assert cache.get_seq_length() == len(PREFIX)
        assert cache.layers[0].keys.shape[0] == 1
