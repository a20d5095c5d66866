"""Instructions and responses: what keeps a classifier following what it is asked, and what shows whether it still does.

The project's own pairs are generated from seeds by templates in six skills: arithmetic, lists, formatting, extraction,
rewriting and short facts. Every response can be checked. Templates of the held-out part are none of the training part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from elicit.domains.files import read_records
from elicit.errors import DomainError

OWN = "own"
Rng = np.random.Generator
Made = tuple[str, str]  # prompt, response
Check = Literal["words", "verbatim", "number", "json", "none"]


@dataclass(frozen=True)
class Instruction:
    """One instruction and a response to it.

    Attributes:
        prompt: what the user asks.
        response: a right answer.
        template: which template made it; empty for pairs from elsewhere.
        check: how an answer is compared with the response: word by word, character by character, by its last number, as JSON, or
            not at all.
    """

    prompt: str
    response: str
    template: str = ""
    check: Check = "none"

    def passes(self, answer: str) -> bool | None:
        """Whether an answer is right; None where that cannot be checked."""
        if self.check == "none":
            return None
        if self.check == "number":
            return _numbers(answer)[-1:] == _numbers(self.response)[-1:]
        if self.check == "json":
            found = re.search(r"[\[{].*[\]}]", answer, re.DOTALL)
            try:
                return bool(found) and json.loads(found[0] if found else "") == json.loads(self.response)
            except ValueError:
                return False
        if self.check == "verbatim":
            return answer.strip().removesuffix(".") == self.response
        return _words(answer) == _words(self.response)


def load_instructions(name: str, seed: int = 0, size: int = 600) -> list[Instruction]:
    """Training pairs: the project's own, of a file, or of a hub data set.

    Args:
        name: "own"; a .jsonl, .csv or .parquet file; or hub:owner/name[:config[:split]]. Files and data sets have the columns
            "prompt" and "response" (or "instruction" and "output").
        seed: of the project's own pairs.
        size: at most this many.

    Raises:
        DomainError: the pairs cannot be read, or a row has no prompt or no response.
    """
    if name == OWN:
        return own_instructions(size, seed)
    out: list[Instruction] = []
    for where, record in read_records(name):
        prompt, response = (_field(record, *names) for names in (("prompt", "instruction"), ("response", "output")))
        extra = record.get("input")
        if not isinstance(prompt, str) or not isinstance(response, str) or not prompt.strip() or not response.strip():
            raise DomainError(f"{name}: {where} needs a prompt and a response, both texts that are not empty")
        out.append(
            Instruction(f"{prompt}\n\n{extra}" if isinstance(extra, str) and extra.strip() else prompt, response)
        )
        if len(out) == size:
            break
    if not out:
        raise DomainError(f"{name}: there is no row; give a file with one prompt and response per row")
    return out


def own_instructions(size: int, seed: int = 0, held_out: bool = False) -> list[Instruction]:
    """At most `size` different pairs, evenly over the templates of one part.

    Args:
        size: how many.
        seed: of what the templates are filled with.
        held_out: from the templates that training never sees.
    """
    templates = HELD_OUT if held_out else TRAINING
    rng = np.random.default_rng([seed, held_out])
    seen: dict[str, Instruction] = {}
    tries = 0
    while len(seen) < size and tries < 50 * size:
        make, check = templates[tries % len(templates)]
        prompt, response = make(rng)
        seen.setdefault(prompt, Instruction(prompt, response, make.__name__.strip("_"), check))
        tries += 1
    return list(seen.values())


def _field(record: dict[str, object], *names: str) -> object:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _numbers(text: str) -> list[str]:
    return [number.replace(",", "").rstrip(".") for number in re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


THINGS = [
    "apples",
    "books",
    "candles",
    "chairs",
    "coins",
    "cups",
    "keys",
    "lamps",
    "pencils",
    "plates",
    "ropes",
    "shells",
    "spoons",
    "stamps",
    "stones",
    "tickets",
]
NOUNS = [
    "bridge",
    "castle",
    "desert",
    "engine",
    "forest",
    "garden",
    "harbour",
    "island",
    "kitchen",
    "ladder",
    "market",
    "needle",
    "orchard",
    "piano",
    "river",
]
COLOURS = ["red", "blue", "green", "yellow", "purple", "orange", "white", "black", "brown", "pink"]
ANIMALS = ["cat", "dog", "horse", "rabbit", "sheep", "goat", "eagle", "whale", "tiger", "otter"]
TRADES = ["baker", "farmer", "teacher", "driver", "painter", "nurse", "sailor", "gardener"]
PLACES = ["station", "library", "bakery", "museum", "harbour", "market", "school", "theatre"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Spain": "Madrid", "Egypt": "Cairo", "Germany": "Berlin",
    "Canada": "Ottawa", "Greece": "Athens", "Norway": "Oslo", "Poland": "Warsaw", "Portugal": "Lisbon", "Russia": "Moscow",
    "Austria": "Vienna", "Ireland": "Dublin", "Cuba": "Havana", "Kenya": "Nairobi", "Peru": "Lima", "Sweden": "Stockholm",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "early": "late", "full": "empty", "hard": "soft", "light": "dark",
    "old": "new", "open": "closed", "rich": "poor", "strong": "weak", "wet": "dry", "high": "low", "loud": "quiet",
}  # fmt: skip
PLURALS = {
    "child": "children", "foot": "feet", "knife": "knives", "leaf": "leaves", "man": "men", "mouse": "mice",
    "tooth": "teeth", "box": "boxes", "city": "cities", "goose": "geese", "wolf": "wolves", "baby": "babies",
}  # fmt: skip
PAST = {
    "walk": "walked", "eat": "ate", "go": "went", "see": "saw", "write": "wrote", "run": "ran", "sing": "sang",
    "buy": "bought", "think": "thought", "swim": "swam", "take": "took", "make": "made", "find": "found", "give": "gave",
}  # fmt: skip
LEGS = {"a spider": 8, "a dog": 4, "an ant": 6, "a chicken": 2, "a horse": 4, "a bee": 6, "a cow": 4, "a duck": 2}


def _pick(rng: Rng, words: Sequence[str], count: int) -> list[str]:
    return [words[i] for i in rng.choice(len(words), count, replace=False)]


def _one(rng: Rng, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]


def _int(rng: Rng, low: int, high: int) -> int:
    return int(rng.integers(low, high))


# Arithmetic


def _sum(rng: Rng) -> Made:
    a, b = _int(rng, 2, 60), _int(rng, 2, 40)
    return f"What is {a} + {b}?", f"{a} + {b} = {a + b}"


def _difference(rng: Rng) -> Made:
    a, b = _int(rng, 30, 99), _int(rng, 2, 30)
    return f"Subtract {b} from {a}. Reply with the number only.", str(a - b)


def _product(rng: Rng) -> Made:
    a, b = _int(rng, 2, 10), _int(rng, 2, 10)
    return f"Multiply {a} by {b}.", f"{a} times {b} is {a * b}."


def _larger(rng: Rng) -> Made:
    a, b = _pick(rng, [str(n) for n in range(10, 500)], 2)
    return f"Which number is larger, {a} or {b}?", str(max(int(a), int(b)))


def _double(rng: Rng) -> Made:
    a = _int(rng, 3, 50)
    return f"What is twice {a}?", f"Twice {a} is {2 * a}."


def _story(rng: Rng) -> Made:
    trade, thing, a, b = _one(rng, TRADES), _one(rng, THINGS), _int(rng, 3, 30), _int(rng, 2, 20)
    return (
        f"A {trade} has {a} {thing} and gets {b} more. How many {thing} does the {trade} have now?",
        f"The {trade} now has {a + b} {thing}, since {a} + {b} = {a + b}.",
    )


def _smallest(rng: Rng) -> Made:
    numbers = _pick(rng, [str(n) for n in range(10, 99)], 4)
    return f"Name the smallest of these numbers: {', '.join(numbers)}.", min(numbers, key=int)


# Lists


def _sorted_words(rng: Rng) -> Made:
    words = _pick(rng, NOUNS, 4)
    return f"Sort these words alphabetically: {', '.join(words)}", ", ".join(sorted(words))


def _reversed_list(rng: Rng) -> Made:
    words = _pick(rng, COLOURS, 4)
    return f"Write this list in reverse order: {', '.join(words)}", ", ".join(reversed(words))


def _count_up(rng: Rng) -> Made:
    a = _int(rng, 1, 40)
    numbers = [str(n) for n in range(a, a + 6)]
    return f"Count from {a} to {a + 5}.", ", ".join(numbers)


def _bullets(rng: Rng) -> Made:
    words = _pick(rng, THINGS, 3)
    return f"Turn this into a bulleted list: {', '.join(words)}", "\n".join(f"- {word}" for word in words)


def _last_item(rng: Rng) -> Made:
    words = _pick(rng, ANIMALS, 5)
    return f"What is the last item of this list? {', '.join(words)}", words[-1]


def _numbered(rng: Rng) -> Made:
    words = _pick(rng, ANIMALS, 3)
    lines = "\n".join(f"{i}. {word}" for i, word in enumerate(words, start=1))
    return f"Make a numbered list of the following animals: {', '.join(words)}", lines


def _how_many(rng: Rng) -> Made:
    count = _int(rng, 2, 7)
    words = _pick(rng, NOUNS, count)
    return f"How many words are in this list? {' '.join(words)}", f"There are {count} words in the list."


# Formatting


def _capitals(rng: Rng) -> Made:
    words = " ".join(_pick(rng, NOUNS, 3))
    return f"Write this in capital letters: {words}", words.upper()


def _as_json(rng: Rng) -> Made:
    thing, colour, count = _one(rng, THINGS), _one(rng, COLOURS), _int(rng, 1, 20)
    held = json.dumps({"item": thing, "colour": colour, "count": count})
    return f'Write this as JSON with the keys "item", "colour" and "count": {count} {colour} {thing}', held


def _date(rng: Rng) -> Made:
    day, month, year = _int(rng, 1, 28), _int(rng, 0, 12), _int(rng, 1950, 2030)
    return f"Write {day} {MONTHS[month]} {year} in the format YYYY-MM-DD.", f"{year}-{month + 1:02d}-{day:02d}"


def _brackets(rng: Rng) -> Made:
    words = _pick(rng, COLOURS, 3)
    return f"Put each word in square brackets: {' '.join(words)}", " ".join(f"[{word}]" for word in words)


def _json_list(rng: Rng) -> Made:
    words = _pick(rng, ANIMALS, 3)
    return f"Give these words as a JSON array of strings: {', '.join(words)}", json.dumps(words)


def _title(rng: Rng) -> Made:
    words = _pick(rng, NOUNS, 3)
    return f"Begin every word with a capital letter: {' '.join(words)}", " ".join(word.capitalize() for word in words)


# Extraction


def _address(rng: Rng) -> Made:
    trade, noun = _one(rng, TRADES), _one(rng, NOUNS)
    address = f"{trade}@{noun}.example"
    return (
        f"Find the e-mail address in this message: Good morning, please write to {address} before {_one(rng, DAYS)}.",
        address,
    )


def _who(rng: Rng) -> Made:
    trade, thing, place = _one(rng, TRADES), _one(rng, THINGS), _one(rng, PLACES)
    return (
        f"Read the sentence and answer. The {trade} left the {thing} at the {place}. Where are the {thing}?",
        f"The {thing} are at the {place}.",
    )


def _which_colour(rng: Rng) -> Made:
    colour, animal, trade = _one(rng, COLOURS), _one(rng, ANIMALS), _one(rng, TRADES)
    return (
        f"The {trade} painted a {colour} {animal} on the wall. Which colour is mentioned? Answer with one word.",
        colour,
    )


def _when(rng: Rng) -> Made:
    day, place, hour = _one(rng, DAYS), _one(rng, PLACES), _int(rng, 1, 12)
    return (
        f"Extract the day of the week: We meet at the {place} on {day} at {hour} o'clock.",
        day,
    )


def _price(rng: Rng) -> Made:
    thing, price, count = _one(rng, THINGS), _int(rng, 2, 90), _int(rng, 2, 9)
    return (
        f"From this note, tell me the price in euros: {count} {thing} were sold for {price} euros last {_one(rng, DAYS)}.",
        f"The price is {price} euros.",
    )


# Rewriting


def _replace(rng: Rng) -> Made:
    a, b = _pick(rng, ANIMALS, 2)
    place = _one(rng, PLACES)
    return f'Replace "{a}" by "{b}": The {a} sleeps near the {place}.', f"The {b} sleeps near the {place}."


def _past(rng: Rng) -> Made:
    verb = _one(rng, list(PAST))
    return f'What is the past tense of "{verb}"?', f'The past tense of "{verb}" is "{PAST[verb]}".'


def _polite(rng: Rng) -> Made:
    thing, place = _one(rng, THINGS), _one(rng, PLACES)
    return (
        f"Make this request polite by beginning with Please: Bring the {thing} to the {place}.",
        f"Please bring the {thing} to the {place}.",
    )


def _plural(rng: Rng) -> Made:
    noun = _one(rng, list(PLURALS))
    return f'Give the plural of the word "{noun}".', PLURALS[noun]


def _without(rng: Rng) -> Made:
    colour, animal, place = _one(rng, COLOURS), _one(rng, ANIMALS), _one(rng, PLACES)
    return (
        f'Leave out the word "{colour}": The {colour} {animal} waits at the {place}.',
        f"The {animal} waits at the {place}.",
    )


# Short facts


def _capital(rng: Rng) -> Made:
    country = _one(rng, list(CAPITALS))
    return f"What is the capital of {country}?", f"The capital of {country} is {CAPITALS[country]}."


def _next_day(rng: Rng) -> Made:
    i = _int(rng, 0, 7)
    return f"Which day comes after {DAYS[i]}?", f"{DAYS[(i + 1) % 7]} comes after {DAYS[i]}."


def _opposite(rng: Rng) -> Made:
    word = _one(rng, list(OPPOSITES))
    return f'What is the opposite of "{word}"?', OPPOSITES[word]


def _month(rng: Rng) -> Made:
    i = _int(rng, 0, 12)
    return f"Which month comes right before {MONTHS[i]}?", f"{MONTHS[i - 1]} comes right before {MONTHS[i]}."


def _legs(rng: Rng) -> Made:
    animal = _one(rng, list(LEGS))
    return f"How many legs does {animal} have?", f"{animal.capitalize()} has {LEGS[animal]} legs."


Template = tuple[Callable[[Rng], Made], Check]
TRAINING: tuple[Template, ...] = (
    (_sum, "number"), (_sorted_words, "words"), (_capitals, "verbatim"), (_address, "words"), (_replace, "words"),
    (_capital, "words"), (_difference, "number"), (_reversed_list, "words"), (_as_json, "json"), (_who, "words"),
    (_past, "words"), (_next_day, "words"), (_product, "number"), (_count_up, "words"), (_date, "verbatim"),
    (_which_colour, "words"), (_polite, "words"), (_opposite, "words"), (_larger, "number"), (_bullets, "verbatim"),
    (_brackets, "verbatim"), (_story, "number"),
)  # fmt: skip
HELD_OUT: tuple[Template, ...] = (
    (_double, "number"), (_last_item, "words"), (_json_list, "json"), (_when, "words"), (_plural, "words"),
    (_month, "words"), (_smallest, "number"), (_numbered, "verbatim"), (_title, "verbatim"), (_price, "number"),
    (_without, "words"), (_legs, "number"), (_how_many, "number"),
)  # fmt: skip
