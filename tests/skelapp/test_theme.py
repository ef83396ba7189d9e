"""Contrast of every text on every ground it is laid on, in both themes; sides and persons stay tellable apart."""

from __future__ import annotations

import pytest

from skelapp import theme
from skelapp.theme import DARK, LIGHT, ON_PERSON, PERSON_COLOURS, Theme, contrast

GROUNDS = ("background", "surface", "raised", "info_surface", "danger_surface")


def test_contrast_of_known_pairs() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("colours", [DARK, LIGHT], ids=lambda t: t.name)
@pytest.mark.parametrize("ground", GROUNDS)
def test_text_is_readable_on_every_ground(colours: Theme, ground: str) -> None:
    assert contrast(colours.text, getattr(colours, ground)) >= 7.0
    assert contrast(colours.muted, getattr(colours, ground)) >= 4.5


@pytest.mark.parametrize("colours", [DARK, LIGHT], ids=lambda t: t.name)
def test_buttons_and_errors_are_readable(colours: Theme) -> None:
    assert contrast(colours.on_accent, colours.accent) >= 4.5
    assert contrast(colours.danger, colours.danger_surface) >= 4.5
    assert contrast(colours.accent, colours.surface) >= 3.0  # focus ring against what it surrounds


@pytest.mark.parametrize("colour", PERSON_COLOURS)
def test_labels_on_a_persons_colour_are_readable(colour: str) -> None:
    assert contrast(ON_PERSON, colour) >= 4.5


def test_sides_of_a_body_differ_in_shade() -> None:
    for person in (1, 2):
        left, right = (theme.side_colour(person, side).name() for side in ("left", "right"))
        assert contrast(left, right) >= 1.6


def test_persons_keep_their_colours() -> None:
    assert theme.person_colour(1).name().upper() == "#E69F00"
    assert theme.person_colour(2).name().upper() == "#56B4E9"


def test_the_style_sheet_has_no_gaps(qapp) -> None:
    for choice in ("dark", "light", "system"):
        applied = theme.apply(qapp, choice)
        assert "$" not in theme.style_sheet(applied)
        assert qapp.palette().window().color().name() == applied.background
