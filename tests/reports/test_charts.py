"""Charts for any experiment: well-formed, honest about what is undefined, and readable without colour or light."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest

from elicit.reports.charts import Curve, Interval, Point, _look, _number, curves, heat_map, intervals, pareto, scatter
from elicit.reports.drawing import Drawing

EVIL = "<b>$x^$</b>"


def text_of(svg: str) -> list[str]:
    return [
        "".join(part.itertext()).strip() for part in ElementTree.fromstring(svg).iter() if part.tag.endswith("text")
    ]


def test_a_heat_map_says_every_value_and_leaves_what_is_undefined_open() -> None:
    said = text_of(heat_map(["a", "b"], ["c", EVIL], [[0.5, None], [1.25, 0.75]], (0.5, 1.0)))
    for expected in ("0.50", "1.25", "0.75", "–", "a", EVIL):
        assert expected in said
    assert "None" not in said
    assert "nan" not in said


def test_a_value_beyond_the_limits_has_the_colour_of_the_end() -> None:
    def shades(value: float) -> list[str]:
        return re.findall(r"fill: (#[0-9a-f]{6})", heat_map(["a"], ["b"], [[value]], (0.5, 1.0)))

    assert shades(1.0) == shades(3.0)
    assert shades(0.5) == shades(-1.0) != shades(1.0)


def test_a_map_with_two_sides_is_pale_at_nothing_and_says_words_below_values() -> None:
    def shade(value: float) -> tuple[int, ...]:
        drawn = heat_map(["a"], ["b"], [[value]], (-0.4, 0.2), middle=0.0)
        found = re.findall(r"fill: #([0-9a-f]{6})", drawn)[0]
        return tuple(bytes.fromhex(found))

    assert min(shade(0.0)) > 235  # nearly white
    red, _, blue = shade(-0.4)
    assert red > blue  # brown
    red, _, blue = shade(0.2)
    assert blue > red  # violet
    assert shade(-9.0) == shade(-0.4)
    said = text_of(
        heat_map(["a"], ["b", "c"], [[-0.3, None]], (-0.4, 0.2), "{:+.1f}", words=[["falls", "not touched"]])
    )
    assert {"−0.3", "falls", "–", "not touched"} <= set(said)


def test_the_front_holds_what_nothing_beats_at_its_price() -> None:
    points = [
        Point(1, 0.5, "cheap"),
        Point(2, 0.9, "good"),
        Point(2, 0.7, "worse"),
        Point(3, 0.9, "dear"),
        Point(9, 0.95, "best"),
    ]
    for order in itertools.permutations(points):
        assert [point.name for point in pareto(order)] == ["cheap", "good", "best"]
    assert pareto([]) == []


def test_panels_share_one_legend_and_names_are_neither_markup_nor_mathematics() -> None:
    held = {
        EVIL: [Curve("one", [0, 1], [0.5, 0.6], [0.4, 0.5], [0.6, 0.7])],
        "second": [Curve("one", [0, 1], [0.7, 0.8])],
    }
    said = text_of(curves(held, "x", "y", ticks=(0, 1), logarithmic=True, reference=(0.5, "chance")))
    assert said.count("one") == 1
    assert EVIL in said
    assert "chance" in said
    said = text_of(scatter({"all": [Point(1, 0.5, EVIL, "g"), Point(100, 0.6, "b", "h")]}, "x", "y", True, True))
    assert {EVIL, "b", "g", "h"} <= set(said)


def test_rows_say_their_numbers_and_undefined_has_no_mark() -> None:
    held = {
        "t": [
            Interval.of("a", {"value": 0.5, "low": 0.4, "high": 0.625}),
            Interval.of("b", {"value": None, "undefined": "x"}),
        ]
    }
    svg = intervals(held, "x", references={"chance": 0.5})
    assert "0.500 [0.400, 0.625]" in text_of(svg)
    assert "undefined" in text_of(svg)
    assert {"a", "b", "chance"} <= set(text_of(svg))


def test_seven_lines_beside_each_other_differ_in_hue_and_marker_and_neighbours_in_dash() -> None:
    looks = [_look(at) for at in range(49)]
    assert len({(look["color"], look["marker"]) for look in looks}) == 49
    assert all(one["linestyle"] != other["linestyle"] for one, other in itertools.pairwise(looks))


def test_a_drawing_on_a_page_takes_the_page_s_colours_and_keeps_its_ids_to_itself() -> None:
    drawing = Drawing(
        "name", "curves", f"alt {EVIL}", curves({"p": [Curve("c", [0, 1], [0, 1], [0, 0], [1, 1])]}, "x", "y")
    )
    inline = drawing.inline()
    assert "<style" not in inline
    assert "var(--ink)" in inline
    assert "#1d2433" not in inline
    assert {name for name in re.findall(r' id="([^"]*)"', inline) if not name.startswith("name-")} == set()
    referred = set(re.findall(r"url\(#([^)]*)\)", inline)) | set(re.findall(r'href="#([^"]*)"', inline))
    assert referred <= set(re.findall(r' id="([^"]*)"', inline))
    root = ElementTree.fromstring(drawing.file())
    described = root.find("{*}desc")
    assert described is not None
    assert described.text == f"alt {EVIL}"


@pytest.mark.parametrize(
    ("value", "form", "written"), [(-0.003, "{:.0%}", "0%"), (-0.013, "{:.0%}", "−1%"), (-0.3, "{:+.2f}", "−0.30")]
)
def test_what_is_rounded_to_zero_has_no_sign(value: float, form: str, written: str) -> None:
    assert _number(value, form) == written
