"""Why a verdict is open: every obstacle met, kept in a table, said in words."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from saliency_sanity._files import read_table, write_table
from saliency_sanity.verdict.obstacle import CeilingKind, Note, NoteKind, Obstacle, notes_of
from saliency_sanity.verdict.reading import read, table
from saliency_sanity.verdict.wording import (
    CEILINGS,
    reasons,
    said,
    settled,
    verdict_words,
    why,
)

ONE = Note(NoteKind.ONE_NETWORK)
# As text a table may hold nothing else.
KEY = re.compile(r"^[A-Za-z_][A-Za-z0-9_.:/-]*$")


def alone(lost):
    """Similarities of eight images, which after the first of five networks are undefined."""
    values = 0.1 * np.random.default_rng(0).standard_normal((5, 8, 8))
    values[:, *np.diag_indices(8)] = 0.5
    values[lost:, *np.diag_indices(8)] = np.nan
    return values


def vanishing(kept):
    """Similarities of 30 images near 0.9 of the first ones; maps of all others are gone."""
    values = 0.01 * np.random.default_rng(0).standard_normal((2, 30, 30)) + 0.9 * np.eye(30)
    values[:, :, kept:] = np.nan
    return values


SQUARES = {
    "few": np.eye(3)[None] + 0.1,
    "few_of_many": np.where(np.eye(8) * (np.arange(8) > 2), np.nan, 0.5)[None],
    "gone": np.where(np.eye(8), 0.5, np.nan)[None],
    "full": np.full((2, 8, 8), 0.9876) + 0.001 * np.eye(8),
    "lacking": alone(1),
    "vanished": vanishing(5),
    "vanished_less": vanishing(20),
    "open": 0.1 * np.eye(8) + 0.1 * np.random.default_rng(0).standard_normal((2, 8, 8)),
    "open_once": 0.1 * np.eye(8) + 0.1 * np.random.default_rng(1).standard_normal((1, 8, 8)),
    "once": np.eye(8),
    "decided": np.tile(np.eye(8), (2, 1, 1)),
}
# Obstacle, notes, and the words, all notes said.
EXPECTED = {
    "few": ("few_images", (), "too few images: 3 with a defined similarity, where 5 are needed"),
    "few_of_many": (
        "few_images",
        (Note(NoteKind.OF_IMAGES, 8),),
        "too few images: 3 of 8 with a defined similarity, where 5 are needed",
    ),
    "gone": (
        "chance_undefined",
        (),
        "chance is undefined: no defined similarity between different images",
    ),
    "full": ("no_room", (), "chance is 0.988: the metric cannot tell maps apart"),
    "lacking": ("undefined_similarities", (), "too many undefined similarities for an interval"),
    "vanished": (
        "vanished",
        (),
        "50 maps have no similarity, and counted as changed they may take kappa to 0.02",
    ),
    "vanished_less": (None, (), ""),
    "open": ("margin_inside", (), "the interval includes the margin 0.1"),
    "open_once": (
        "margin_inside",
        (ONE,),
        "the interval includes the margin 0.1; one seed: the interval is for this network",
    ),
    "once": (None, (ONE,), "one seed: the interval is for this network"),
    "decided": (None, (), ""),
}


@pytest.fixture(scope="module")
def readings():
    return {name: read(square) for name, square in SQUARES.items()}


@pytest.mark.parametrize("name", SQUARES)
def test_every_obstacle_of_a_reading_is_met_and_said(readings, name):
    reading = readings[name]
    obstacle, notes, words = EXPECTED[name]
    assert (reading.obstacle, reading.notes) == (obstacle, notes)
    assert (reading.verdict == "inconclusive") == (obstacle is not None)
    row = reading.row()
    assert reasons(row) == words
    assert why(row) == (words.partition("; ")[0] if obstacle else "")
    assert settled(row) == (obstacle in (None, "margin_inside", "vanished"))
    if obstacle:
        assert said(row) == f"inconclusive: {words.partition('; ')[0]}"
        assert reading.words() == verdict_words(row) == f"inconclusive ({words})"
        assert str(reading).endswith(f": inconclusive ({words})")


def test_obstacles_that_others_find_have_words():
    row = {"verdict": "inconclusive", "notes": "", "line": 0.999}
    assert why(row | {"obstacle": Obstacle.LINE_INSIDE}) == "the interval includes 0.999"
    assert settled(row | {"obstacle": "line_inside"})
    known = row | {"obstacle": "not_memorized"}
    assert why(known) == reasons(known) == "the permuted labels were not memorized"
    assert not settled(known)


@pytest.mark.parametrize("kind", CeilingKind)
def test_a_low_ceiling_says_what_it_is(kind):
    low = 0.05 * np.eye(8) + 0.01 * np.random.default_rng(0).standard_normal((8, 8))
    reading = read(SQUARES["decided"] * 0.02, ceiling={kind: low, "arithmetic": low})
    row = reading.row()
    assert (reading.verdict, reading.obstacle) == ("cannot tell", "low_ceiling")
    assert why(row) == reasons(row) == f"{CEILINGS[kind]} has kappa {reading.ceiling:.2f}"
    assert said(row) == f"cannot tell: {why(row)}"
    assert reading.words() == f"cannot tell ({why(row)})"
    assert str(reading).endswith(f": cannot tell ({why(row)})")
    assert not settled(row)


def test_no_obstacle_is_left_out_here():
    met = {obstacle for obstacle, _, _ in EXPECTED.values() if obstacle}
    elsewhere = {"line_inside", "not_memorized", "low_ceiling"}
    elsewhere |= {"share_inside", "unclear_ceiling"}
    assert met | elsewhere == {obstacle.value for obstacle in Obstacle}


def test_a_table_keeps_obstacles_and_notes_as_plain_text(readings, tmp_path):
    written = table(readings)
    assert "reason" not in written
    back = read_table(write_table(written, tmp_path / "readings.parquet"))
    pd.testing.assert_frame_equal(back, written.astype(back.dtypes))
    for row, reading in zip(back.to_dict("records"), readings.values(), strict=True):
        for text in (row["obstacle"], *row["notes"].split()):
            assert type(text) is str
            assert text == "" or KEY.match(text)
        assert Obstacle.of(row["obstacle"]) is reading.obstacle
        assert notes_of(row["notes"]) == reading.notes
        assert reasons(row) == reasons(reading.row())
        assert verdict_words(row) == row["words"]


@pytest.mark.parametrize("obstacle", Obstacle)
def test_an_obstacle_is_told_by_its_text(obstacle):
    assert KEY.match(obstacle.value)
    assert Obstacle.of(obstacle.value) is obstacle


def test_notes_are_told_by_their_text():
    notes = (ONE, Note(NoteKind.OF_IMAGES, 20))
    assert " ".join(map(str, notes)) == "one_network of_images:20"
    assert notes_of("one_network of_images:20") == notes
    assert notes_of("") == ()
    assert Obstacle.of("") is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"obstacle": "few_image"}, "unknown obstacle 'few_image'. Nearest: few_images"),
        ({"obstacle": "the interval holds"}, "unknown obstacle 'the interval holds'"),
        ({"notes": "one_netwerk"}, "unknown note 'one_netwerk'. Nearest: one_network"),
        ({"notes": "one_network of_images:many"}, "note 'of_images:many': of_images has a count"),
        ({"notes": "of_images"}, "note 'of_images': of_images has a count"),
        ({"notes": "of_images:3 one_network:3"}, "note 'one_network:3': of_images has a count"),
    ],
)
def test_what_a_table_cannot_mean_is_refused_by_name(readings, row, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        reasons(readings["open"].row() | row)


def test_a_verdict_is_to_be_had_without_torch():
    code = "import sys; from saliency_sanity.verdict import read, why; assert 'torch' not in "
    subprocess.run([sys.executable, "-c", code + "sys.modules"], check=True)
