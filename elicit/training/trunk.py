"""The frozen lower layers of a model whose upper layers learn: what they make of a sequence is computed once and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from elicit.language_models.decoder import decoder_layers
from elicit.training.examples import Example, collate
from elicit.training.packing import Batch, Pack, pack_of, packs

BLOCK = 16  # examples whose lower layers run together


class Trunk:
    """Layers below the first one that learns.

    In what company a sequence runs decides how its numbers are rounded. It is always the same here, neighbours by number and not
    by batch, so that an interrupted training goes on with the very same activations.

    Args:
        model: a PEFT model whose lower layers carry no adapter.
        first: number of the first layer that learns, at least 1.
        examples: that are trained on, by number.
        room: tokens that run at once.
        half: the dtype of products where it is another one than that of the weights, or None.
    """

    def __init__(
        self, model: Any, first: int, examples: Sequence[Example], room: int, half: torch.dtype | None
    ) -> None:
        self._model, self._first, self._examples, self._room, self._half = model, first, examples, room, half
        self._decoder = getattr(model, "get_base_model", lambda: model)().get_decoder()
        # In the model's own dtype on the CPU: a thousand short texts take some tens of megabytes.
        self._kept: dict[tuple[str, int], torch.Tensor] = {}

    def freeze(self) -> None:
        """See to it that the lower layers do not learn."""
        for layer in list(decoder_layers(self._decoder)[1])[: self._first]:
            layer.requires_grad_(False)

    def logits(self, model: Any, batch: Batch, heads: Sequence[Sequence[int]]) -> torch.Tensor:
        """As `packed_logits`, through the model or a wrapper of it; the lower layers run only for sequences not seen before.

        The batch has the number of each example among all as `numbers`.
        """
        pack = pack_of(batch, heads, self._model.dtype)
        numbers = batch["numbers"].tolist()
        keys = [
            (kind, number if kind == "head" else numbers[number])
            for (kind, number), length in pack.parts
            if length  # what begins a sequence may be nothing
        ]
        for kind, number in keys:
            if (kind, number) not in self._kept:
                self._keep(kind, number, heads, pack.ids.device)
        states = torch.cat([self._kept[key] for key in keys]).to(pack.ids.device)
        with self._layers(range(self._first, 10**6)):
            output = model(
                inputs_embeds=states[None],
                attention_mask=pack.mask,
                position_ids=pack.positions[None],
                logits_to_keep=pack.reads,
                use_cache=False,
            )
        return torch.as_tensor(output.logits[0])

    def _keep(self, kind: str, number: int, heads: Sequence[Sequence[int]], device: torch.device) -> None:
        """Run the lower layers for a beginning alone, or for an example and those numbered beside it."""
        if kind == "head":
            alone = Example(number=-1, head=number, suffix=[], reads=[], targets=[], weights=[], count=0.0, where="")
            batch = collate([alone])
        else:
            first = number // BLOCK * BLOCK
            last = min(first + BLOCK, len(self._examples))
            batch = collate([self._examples[place] for place in range(first, last)])
        for part in packs({name: values.to(device) for name, values in batch.items()}, heads, self._room):
            pack = pack_of(part, heads, self._model.dtype)
            found = self._run_lower(pack).to("cpu")
            for ((found_kind, place), _), states in zip(
                pack.parts, torch.split(found, [length for _, length in pack.parts]), strict=True
            ):
                if found_kind == kind:
                    key = number if kind == "head" else int(part["numbers"][place])
                    self._kept[kind, key] = states.clone()

    @torch.no_grad()
    def _run_lower(self, pack: Pack) -> torch.Tensor:
        """(t, d) outputs of the last frozen layer."""
        caught: list[torch.Tensor] = []

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            caught.append(output[0] if isinstance(output, tuple) else output)

        autocast = torch.autocast(pack.ids.device.type, dtype=self._half, enabled=self._half is not None)
        learning = self._decoder.training
        with autocast, self._layers(range(self._first)) as layers:
            self._decoder.eval()  # what is computed once must not hang on one draw of a dropout
            handle = layers[self._first - 1].register_forward_hook(keep)
            try:
                self._decoder(
                    input_ids=pack.ids[None],
                    attention_mask=pack.mask,
                    position_ids=pack.positions[None],
                    use_cache=False,
                )
            finally:
                handle.remove()
                self._decoder.train(learning)
        return caught[0][0]

    @contextmanager
    def _layers(self, which: range) -> Iterator[nn.ModuleList]:
        """The decoder with some of its layers only. The others keep their places: masks and rotations go by number."""
        name, all_layers = decoder_layers(self._decoder)
        some = nn.ModuleList([layer if i in which else _Skipped(layer) for i, layer in enumerate(all_layers)])
        setattr(self._decoder, name, some)
        try:
            yield some
        finally:
            setattr(self._decoder, name, all_layers)


class _Skipped(nn.Module):
    """A layer that hands on what it gets."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.attention_type = getattr(layer, "attention_type", None)

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return hidden_states
