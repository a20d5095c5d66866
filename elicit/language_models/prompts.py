"""From texts to token ids: a question about each text in the model's own chat format, answered by one verdict token or in words.

A prompt is built from *pieces of token ids*, never from one long string: the template is rendered once with place-holders, cut
at the place-holders, and its pieces are tokenised with special tokens understood; every text is tokenised on its own with
special tokens read as plain characters. So a text cannot close the chat turn, and truncating it cannot cut off the question
or the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from elicit.domains import Question
from elicit.errors import ModelError, PromptError

MAX_TEXT_TOKENS = 2048  # of a text, unless somebody asks for more or fewer: the middle of a longer one is left out
TEXT_MARK, VERDICT_MARK, END_MARK = "\ue0f0TEXT\ue0f1", "\ue0f0VERDICT\ue0f1", "\ue0f0END\ue0f1"
BREAK = "\n"
# All that is the same for every text stands before the text, where its keys and values are computed once.
INSTRUCTION = "{question}\nAnswer with one word, {flagged} or {cleared}."
CHAT_TURN = "Text:\n{text}"
PLAIN_TURN = "Text:\n{text}\nAnswer:"
VERDICT_LINE = "Verdict:"
THINKING = (
    "{question}\nThink it through in a few short sentences. Then end with one line, "
    "either {mark} {flagged} or {mark} {cleared}."
)
UNFAITHFUL = "the model's chat template does not carry the messages through unchanged; remove or mend the template"


@dataclass(frozen=True)
class Verdict:
    """Token ids of the two verdict words, as they stand right after a prompt."""

    flagged: int
    cleared: int


@dataclass(frozen=True)
class EncodedText:
    """Token ids of one text, or the reason why it cannot be read.

    Attributes:
        ids: (t,) token ids, empty when `reason` is set.
        reason: why the text stays unscored, else None.
        truncated: True when tokens were left out of the middle to make the text fit.
    """

    ids: tuple[int, ...]
    reason: str | None = None
    truncated: bool = False


class TextPrompt:
    """A prompt about a text for one tokenizer: `head + text + tail`, and then the model answers.

    Attributes:
        head: token ids before the text; equal for every text, so a model may compute them once.
        tail: token ids between a text and its answer.
        max_text_tokens: longer texts lose their middle.
    """

    def __init__(
        self, tokenizer: Any, head: str, inner: Sequence[str], context_length: int, answer: int, max_text_tokens: int
    ) -> None:
        self._tokenizer = tokenizer
        self.head = list(tokenizer(head, add_special_tokens=False)["input_ids"])
        if not tokenizer.chat_template:
            self.head = [*_beginning(tokenizer), *self.head]
        self._inner = _inner_ids(tokenizer, inner)
        self.tail = self._inner[0]
        self._spelled_out = _spelled_out(tokenizer, {*self.head, *(i for ids in self._inner for i in ids)})
        room = context_length - len(self.head) - len(self.tail) - answer
        if room < 1:
            raise PromptError(
                f"the question takes {len(self.head) + len(self.tail)} tokens, its answer {answer}, and this leaves no room "
                f"for a text in a context of {context_length}; shorten them or use a model with a longer context"
            )
        self.max_text_tokens = min(room, max_text_tokens)

    def encode(self, texts: Sequence[str], max_tokens: int | None = None) -> list[EncodedText]:
        """Token ids of each text. Too long a text loses its middle, since both how it starts and how it ends can matter.

        Args:
            texts: (n,) texts.
            max_tokens: at most this many tokens of each, when fewer than the context allows.
        """
        most = min(self.max_text_tokens, max_tokens or self.max_text_tokens)
        cleaned = [_replace_surrogates(text) for text in texts]
        # A word has at least one character and a token at most some dozens: cutting characters first keeps a text of
        # millions of characters from costing minutes in the tokenizer.
        limit = 40 * most
        short = [text if len(text) <= 2 * limit else text[:limit] + text[-limit:] for text in cleaned]
        encoded = _inner_ids(self._tokenizer, short, split_special_tokens=True)
        out = []
        for text, cut, found in zip(cleaned, short, encoded, strict=True):
            ids = [part for token in found for part in self._spelled_out.get(token, (token,))]
            if not text.strip():
                out.append(EncodedText((), "the text is empty"))
            elif len(ids) > most:
                front = most // 2
                back = most - front
                out.append(EncodedText((*ids[:front], *ids[len(ids) - back :]), truncated=True))
            elif not ids:
                out.append(EncodedText((), "the tokenizer makes no token of the text"))
            else:
                out.append(EncodedText(tuple(ids), truncated=len(cut) < len(text)))
        return out

    def suffix(self, text: EncodedText) -> list[int]:
        """What follows `head` in a zero-shot prompt."""
        return [*text.ids, *self.tail]


class VerdictPrompt(TextPrompt):
    """The prompt of one question, answered by one verdict token.

    Attributes:
        between: token ids between a verdict and the text of the next turn (few-shot contexts).
        verdict: the two verdict token ids.
    """

    def __init__(
        self, tokenizer: Any, question: Question, context_length: int, max_text_tokens: int = MAX_TEXT_TOKENS
    ) -> None:
        self.question = question
        rendered = _render(tokenizer, question)
        head, rest = rendered.split(TEXT_MARK, 1)
        tail, rest = rest.split(VERDICT_MARK, 1)
        between = rest.split(TEXT_MARK, 1)[0]
        super().__init__(tokenizer, head, [tail, between], context_length, 1, max_text_tokens)
        self.between = self._inner[1]
        space = "" if tail[-1:].isspace() else " "
        self.verdict = Verdict(
            _verdict_id(tokenizer, tail, space + question.flagged),
            _verdict_id(tokenizer, tail, space + question.cleared),
        )
        if self.verdict.flagged == self.verdict.cleared:
            raise PromptError(
                f"the verdict words {question.flagged!r} and {question.cleared!r} are the same token for this tokenizer; "
                "name two words that differ in their first token"
            )

    def turn(self, text: EncodedText, flagged: bool) -> list[int]:
        """A text with its verdict and all that stands before the next text of a few-shot context."""
        return [*text.ids, *self.tail, self.verdict.flagged if flagged else self.verdict.cleared, *self.between]

    def sequence(self, pack: Sequence[tuple[EncodedText, bool]]) -> tuple[list[int], list[int]]:
        """Token ids of k labelled texts that follow `head`, up to the last verdict, and the k places in front of the verdicts."""
        ids: list[int] = []
        reads = []
        for text, flagged in pack:
            ids += self.turn(text, flagged)
            reads.append(len(ids) - len(self.between) - 2)
        return ids[: reads[-1] + 1], reads


class InstructionPrompt(TextPrompt):
    """The prompt of one instruction about a text, answered in at most `answer` tokens of the model's own words."""

    def __init__(
        self, tokenizer: Any, instruction: str, context_length: int, answer: int, max_text_tokens: int = MAX_TEXT_TOKENS
    ) -> None:
        content = f"{instruction.strip()}\n\n{CHAT_TURN.format(text=TEXT_MARK)}"
        if tokenizer.chat_template:
            rendered = tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
        else:
            rendered = f"{content}\n\nAnswer:"
        if rendered.count(TEXT_MARK) != 1:
            raise ModelError(UNFAITHFUL)
        head, tail = rendered.split(TEXT_MARK)
        super().__init__(tokenizer, head, [tail], context_length, answer, max_text_tokens)


class ThinkingPrompt(InstructionPrompt):
    """The prompt of one question, answered by reasoning of at most `thoughts` tokens and then one verdict token.

    Attributes:
        question: what is asked about each text.
        verdict: the two verdict token ids, as they stand after the reasoning.
    """

    def __init__(
        self,
        tokenizer: Any,
        question: Question,
        context_length: int,
        thoughts: int,
        max_text_tokens: int = MAX_TEXT_TOKENS,
    ) -> None:
        instruction = THINKING.format(
            question=question.text.strip(), flagged=question.flagged, cleared=question.cleared, mark=VERDICT_LINE
        )
        closing = f"\n{VERDICT_LINE}"
        (ids,) = _inner_ids(tokenizer, [closing])
        super().__init__(tokenizer, instruction, context_length, thoughts + len(ids) + 1, max_text_tokens)
        self.question = question
        self.thoughts = thoughts
        self._closing = ids
        self.verdict = Verdict(
            _verdict_id(tokenizer, closing, f" {question.flagged.strip()}"),
            _verdict_id(tokenizer, closing, f" {question.cleared.strip()}"),
        )

    def forced(self, texts: Sequence[EncodedText], written: Sequence[str]) -> list[list[int]]:
        """What follows `head` up to the verdict that is asked for after what was written, which is data as the text is.

        A verdict that was written already would make the forced one a repetition of it, and is left out.
        """
        reasonings = [text.partition(VERDICT_LINE)[0] for text in written]
        thoughts = self.encode(reasonings, max(1, self.thoughts))
        return [
            [*self.suffix(text), *thought.ids, *self._closing] for text, thought in zip(texts, thoughts, strict=True)
        ]


class ConversationPrompt(TextPrompt):
    """A user's message as it is, answered in at most `answer` tokens; the message is the text.

    Attributes:
        end: the token that ends an answer, None when the tokenizer has none.
    """

    def __init__(self, tokenizer: Any, context_length: int, answer: int) -> None:
        rendered, ending = f"{TEXT_MARK}\n\nAnswer:", ""
        if tokenizer.chat_template:
            messages = [{"role": "user", "content": TEXT_MARK}, {"role": "assistant", "content": VERDICT_MARK}]
            options = {"tokenize": False, "enable_thinking": False}
            rendered = str(tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, **options))
            whole = str(tokenizer.apply_chat_template(messages, **options))
            if rendered.count(TEXT_MARK) != 1 or whole.count(VERDICT_MARK) != 1:
                raise ModelError(UNFAITHFUL)
            ending = whole.split(VERDICT_MARK)[1]
        head, tail = rendered.split(TEXT_MARK)
        super().__init__(tokenizer, head, [tail], context_length, answer, context_length)
        after = tokenizer(ending, add_special_tokens=False)["input_ids"] if ending else []
        self.end: int | None = after[0] if after else tokenizer.eos_token_id
        self._answer = answer
        self._space = "" if tail[-1:].isspace() else " "

    def responses(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of answers with the token that ends them; longer answers are cut and do not end."""
        cleaned = [self._space + _replace_surrogates(text.strip()) for text in texts]
        encoded = _inner_ids(self._tokenizer, cleaned, split_special_tokens=True)
        ended = [[*ids, self.end] if self.end is not None else ids for ids in encoded]
        return [ids[: self._answer] for ids in ended]


def _render(tokenizer: Any, question: Question) -> str:
    ask = INSTRUCTION.format(question=question.text.strip(), flagged=question.flagged, cleared=question.cleared)
    if not tokenizer.chat_template:
        turn = PLAIN_TURN.format(text=TEXT_MARK)
        return f"{ask}\n\n{turn}{VERDICT_MARK}\n\n{turn}"
    turn = CHAT_TURN.format(text=TEXT_MARK)
    messages = [
        {"role": "user", "content": f"{ask}\n\n{turn}"},
        {"role": "assistant", "content": VERDICT_MARK},
        {"role": "user", "content": turn},
    ]
    # Templates of reasoning models open a reasoning block unless told not to; others ignore the argument.
    rendered: str = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    first = tokenizer.apply_chat_template(
        messages[:1], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    if rendered.count(TEXT_MARK) != 2 or rendered.count(VERDICT_MARK) != 1 or first.count(TEXT_MARK) != 1:
        raise ModelError(UNFAITHFUL)
    # The first turn is rendered alone as well: some templates open the answer otherwise (an empty reasoning block, say)
    # in the turn that the model continues than in turns that are history, and the verdict is read in the former.
    return str(first) + VERDICT_MARK + rendered.split(VERDICT_MARK, 1)[1]


def _inner_ids(tokenizer: Any, pieces: Sequence[str], **options: Any) -> list[list[int]]:
    """Token ids of pieces that stand behind other text.

    SentencePiece tokenizers put a space before whatever they are given; so each piece is given behind a line break, whose
    tokens are then taken off.
    """
    if not pieces:
        return []
    opening, alone, behind = tokenizer([BREAK, "a", BREAK + "a"], add_special_tokens=False)["input_ids"]
    ids: list[list[int]] = tokenizer(list(pieces), add_special_tokens=False, **options)["input_ids"]
    if behind[len(opening) :] == alone:
        return ids
    longer = tokenizer([BREAK + piece for piece in pieces], add_special_tokens=False, **options)["input_ids"]
    cut = len(opening)
    return [full[cut:] if full[:cut] == opening else own for full, own in zip(longer, ids, strict=True)]


def _spelled_out(tokenizer: Any, used: set[int]) -> dict[int, list[int]]:
    """For each added token of the template, the tokens of the characters it is written with.

    Only special tokens are read as plain characters on demand, and not every tokenizer declares its chat tokens special.
    """
    # GPT-NeoX adds runs of spaces as tokens: they close no turn, and texts may have them.
    added = {token: str(entry.content) for token, entry in tokenizer.added_tokens_decoder.items() if token in used}
    marks = {token: content for token, content in added.items() if content.strip()}
    # Cut after its first character it is no longer found.
    return {
        token: [i for part in _inner_ids(tokenizer, [content[:1], content[1:]]) for i in part if i not in marks]
        for token, content in marks.items()
    }


def _beginning(tokenizer: Any) -> list[int]:
    """The beginning-of-sequence tokens that the tokenizer itself would put first, none if it would put none."""
    bos = tokenizer.bos_token_id
    ids = list(tokenizer("a")["input_ids"])
    return [bos] if bos is not None and ids[:1] == [bos] else []


def _verdict_id(tokenizer: Any, tail: str, word: str) -> int:
    before, after = _inner_ids(tokenizer, [tail, tail + word])
    if after[: len(before)] != before or len(after) != len(before) + 1:
        extra = (
            tokenizer.convert_ids_to_tokens(after[len(before) :])
            if after[: len(before)] == before
            else "a merged token"
        )
        raise PromptError(
            f"the verdict word {word.strip()!r} is not exactly one token after this prompt (it becomes {extra}); "
            "choose words such as Yes and No, or A and B"
        )
    return int(after[-1])


def _replace_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8") if not _is_encodable(text) else text


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
