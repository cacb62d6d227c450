import errno
import json
import os

import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from saliency_sanity import _files as results
from saliency_sanity._files import ResultsError
from saliency_sanity.book.chapters.claims import (
    LEVELS,
    VERDICTS,
    Claim,
    ClaimTable,
    judge,
    read_claims,
    tried,
)

GOOD = {
    "id": "C5",
    "statement": "Maps look like <edges> & corners",
    "source": "Section 5",
    "paper_said": "similar",
    "measured": 0.3125,
    "chance": -0.02,
    "verdict": "reproduced",
    "reason": "far from chance",
    "of": "upper-layers-leave",
    "about": "Guided Grad-CAM",
    "by": "ssim",
    "level": 0.025,
    "margins": {"0.2": "inconclusive"},
}

# What a page finds out afterwards.
ADDED = {key: value for key, value in GOOD.items() if key not in ("level", "margins")}


def table() -> ClaimTable:
    claims = ClaimTable("01_edge_detectors")
    claims.claims.append(Claim(**GOOD))
    claims.add(**ADDED | {"id": "C6", "verdict": "inconclusive", "measured": float("nan")})
    return claims


def test_what_is_written_comes_back(tmp_path):
    claims = table()
    path = claims.write(tmp_path / "results")
    assert path == tmp_path / "results" / "claims" / "01_edge_detectors.json"
    content = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert content["claims"][0] == GOOD
    again = ClaimTable.read(path)
    assert again.claims[0] == claims.claims[0]
    assert [claim.id for claim in again] == ["C5", "C6"]
    assert [one.notebook for one in read_claims(tmp_path / "results")] == ["01_edge_detectors"]


def test_no_results_give_no_tables(tmp_path):
    assert read_claims(tmp_path) == []


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_of_the_vocabulary_is_accepted(verdict):
    assert Claim(**GOOD | {"verdict": verdict}).verdict == verdict


def test_another_verdict_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"'C5'.*'Reproducd'.*Nearest: reproduced"):
        Claim(**GOOD | {"verdict": "Reproducd"})


@pytest.mark.parametrize("name", ["id", "statement", "source", "reason"])
def test_an_empty_text_is_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' is empty"):
        Claim(**GOOD | {name: " "})


@pytest.mark.parametrize("measured", [float("nan"), float("inf"), None])
@pytest.mark.parametrize("verdict", ["reproduced", "not reproduced"])
def test_no_decision_rests_on_a_missing_number(measured, verdict):
    with pytest.raises(ValueError, match="cannot rest on measured"):
        Claim(**GOOD | {"measured": measured, "verdict": verdict})


def test_no_decision_rests_on_an_undefined_chance_but_there_may_be_none():
    with pytest.raises(ValueError, match="cannot rest on chance"):
        Claim(**GOOD | {"chance": float("nan")})
    assert Claim(**GOOD | {"chance": None}).chance is None


def test_a_claim_is_a_reading_of_a_known_statement_about_something_where_it_needs_that():
    assert Claim(**GOOD).meant.said("X").startswith("X keeps most of its map")
    with pytest.raises(ValueError, match=r"unknown statement .*Nearest: upper-layers-leave"):
        Claim(**GOOD | {"of": "upper-layer-leaves"})
    with pytest.raises(ValueError, match="needs 'about'"):
        Claim(**GOOD | {"about": ""})
    with pytest.raises(ValueError, match="takes no 'about'"):
        Claim(**GOOD | {"of": "products-stay"})


def test_names_are_unique_and_a_refused_claim_is_not_added():
    claims = table()
    with pytest.raises(ValueError, match="'C5' already"):
        claims.add(**ADDED)
    with pytest.raises(ValueError, match="verdict"):
        claims.add(**ADDED | {"id": "C7", "verdict": "maybe"})
    assert len(claims) == 2


def test_an_empty_table_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="empty"):
        ClaimTable("x").write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_claims_of_before(tmp_path, monkeypatch):
    path = table().write(tmp_path)
    before = path.read_bytes()

    def no_room(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(results.os, "fsync", no_room)
    with pytest.raises(ResultsError, match="No space left"):
        table().write(tmp_path)
    assert path.read_bytes() == before


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"notebook": "x", "claims": [{"id": "C5"}]}')
    with pytest.raises(ValueError, match="is not a table of claims"):
        ClaimTable.read(path)


def test_the_page_shows_every_cell_escaped_and_with_header_scopes():
    page = BeautifulSoup(table().show()._repr_html_(), "html.parser")
    heads = page.find_all("th", scope="col")
    assert [head.text for head in heads] == ["Claim", "Verdict", "Paper said", "We got", "Chance"]
    rows = page.tbody.find_all("tr")
    assert len(rows) == 2
    for row in rows:
        assert len(row.find_all(["th", "td"])) == len(heads)
        assert row.find("th")["scope"] == "row"
    assert page.find("edges") is None
    assert GOOD["statement"] in rows[0].th.text
    assert [cell.text for cell in rows[0].find_all("td")][1:4] == ["similar", "0.312", "−0.02"]
    assert rows[1].find_all("td")[2].text == "–"
    assert rows[0].strong.text == "reproduced"
    assert "verdict-reproduced" in rows[0].strong["class"]
    assert not page.find_all(style=True)


def test_the_summary_counts_every_claim_and_names_it_once():
    claims = ClaimTable("x")
    assert claims.summary == "No claim of a paper is about what was run here."
    claims.add(**ADDED)
    assert claims.summary.startswith("**1 claim: 1 reproduced.**")
    claims.add(**ADDED | {"id": "a *b* $c$ <d>", "verdict": "not tested", "measured": None})
    claims.add(**ADDED | {"id": "mixed_7c, x ≠ 0"})
    page = MarkdownIt("commonmark").render(claims.summary)
    found = BeautifulSoup(page, "html.parser")
    assert found.p.text == "3 claims: 2 reproduced, 1 not tested."
    assert [line.text for line in found.select("li")] == [
        "reproduced: C5 · mixed_7c, x ≠ 0",
        "not tested: a *b* $c$ <d>",
    ]
    assert "inconclusive" not in claims.summary


def test_the_summary_counts_what_other_margins_would_have_said():
    claims = ClaimTable("x", [Claim(**GOOD), Claim(**ADDED | {"id": "no margin in it"})])
    other = {"id": "b", "margins": {"0.2": "reproduced"}}
    claims.claims.append(Claim(**GOOD | other))
    assert "2 reproduced" not in claims.summary
    assert "that another margin would change: 1 with 0.2." in claims.summary


def test_the_markdown_has_as_many_cells_in_every_row():
    claims = ClaimTable("x")
    claims.add(**ADDED | {"statement": "a | b"})
    lines = claims._repr_markdown_().splitlines()
    assert {line.replace("\\|", "").count("|") for line in lines} == {6}


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["above", "above"], "reproduced"),
        (["below", "below"], "not reproduced"),
        (["above", "below"], "inconclusive"),
        (["above", "inconclusive"], "inconclusive"),
        ([], "inconclusive"),
        (["above", "cannot tell"], "cannot tell"),
        (["below", "inconclusive", "cannot tell"], "cannot tell"),
    ],
)
def test_a_claim_about_several_readings_needs_all_of_them(verdicts, expected):
    assert judge(verdicts) == expected


def test_a_claim_can_be_that_there_is_no_likeness():
    assert judge(["below"], wanted="below") == "reproduced"


def test_claims_are_tried_at_other_margins_and_levels():
    p = {"sure": 1e-6, "near": 0.011, "open": 0.2}

    def make(margin: float, level: float) -> ClaimTable:
        claims = ClaimTable("x")
        for id, least in p.items():
            passed = least <= level and margin < 0.2
            verdict = "reproduced" if passed else "inconclusive"
            claims.add(**ADDED | {"id": id, "verdict": verdict})
        exact = {"of": "one-layer-closed", "about": ""}
        claims.add(**ADDED | exact | {"id": "exact"})
        claims.add(**ADDED | {"id": "none", "verdict": "not tested", "measured": None})
        return claims

    found = {claim.id: claim for claim in tried(make, 0.1)}
    assert {id: claim.level for id, claim in found.items()} == {
        "sure": LEVELS[-1],
        "near": min(level for level in LEVELS if level >= p["near"]),
        "open": 1.0,
        "exact": None,
        "none": None,
    }
    assert found["sure"].margins == {"0.05": "reproduced", "0.2": "inconclusive"}
    assert found["exact"].margins == {"0.05": "reproduced", "0.2": "reproduced"}
    assert [claim.verdict for claim in tried(make, 0.1)] == [c.verdict for c in make(0.1, 0.05)]
