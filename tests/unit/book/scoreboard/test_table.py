"""The scoreboard read from planted tables: which row counts, what is missing, what it is called."""

from dataclasses import replace

import pandas as pd
import pytest
from made.boards import (
    DRIVEN,
    METHODS,
    MOVING,
    OPEN,
    RESPONDS,
    board,
    moving,
    plant,
    put,
    reading,
    staged,
)
from saliency_sanity import CATALOGUE, resolve
from saliency_sanity._files import write_table
from saliency_sanity.attribution.competition import Compete
from saliency_sanity.book.scoreboard.columns import (
    CHECKS,
    HALF_WORDS,
    HALFWAY,
    ONE_BLOCK,
    UNIT_WORDS,
    Check,
    Source,
)
from saliency_sanity.book.scoreboard.table import (
    COLUMNS,
    TWIN,
    TWINS,
    MissingTablesError,
    at_margins,
    in_order,
    method_title,
    read_scoreboard,
    reasons,
    tally,
)
from saliency_sanity.randomization.blocks import WHOLE
from saliency_sanity.verdict.wording import RANDOMIZATION_WORDS

ONE = Source("02_a", "cnn", "verdicts")
CASCADE = Check("cascade", "Random weights", "CNN", ONE, RANDOMIZATION_WORDS)


def read(results, check, rows, file=None):
    put(results, file or check.source.file, rows)
    return read_scoreboard(results, [check]).set_index("method")


def test_every_measured_pair_has_a_row(tmp_path):
    table = board(tmp_path)
    assert tuple(table.columns) == COLUMNS
    assert set(zip(table["method"], table["check"], strict=True)) == {
        (method, check.key) for method in METHODS for check in CHECKS
    }
    assert not table.duplicated(["method", "check"]).any()
    row = table.set_index(["method", "check"]).loc[("gradient", "labels_cnn")]
    assert (row["verdict"], row["standing"], row["words"]) == ("below", "wanted", "responds")
    assert (row["low"], row["high"]) == RESPONDS
    assert row["page"] == "03_label_randomization-cnn"
    assert row["link"] == "03_label_randomization-cnn.html#verdicts"


def test_what_is_missing_is_named_with_what_makes_it(tmp_path):
    plant(tmp_path)
    gone = [Source("01_edge_detectors", "", ""), Source("04_cgi_sanity", "mlp", "")]
    for source in gone:
        (tmp_path / "tables" / source.file).unlink()
    with pytest.raises(MissingTablesError) as error:
        read_scoreboard(tmp_path, profile="smoke")
    said = str(error.value)
    assert said.startswith("2 of the tables")
    assert "make book PROFILE=smoke" in said
    for source in gone:
        assert f"{source.file}, of notebook {source.notebook}" in said
        assert source.command("smoke") in said
    assert "03_label" not in said
    assert said.count("run notebooks/01_edge_detectors.ipynb") == 1, "two checks read one table"


def test_in_an_empty_folder_everything_is_missing(tmp_path):
    with pytest.raises(MissingTablesError) as error:
        read_scoreboard(tmp_path)
    for check in CHECKS:
        assert check.source.file in str(error.value)


def test_what_was_not_measured_has_no_row(tmp_path):
    table = read(tmp_path, CASCADE, [reading("gradient", "spearman_abs", RESPONDS)])
    assert list(table.index) == ["gradient"]


def test_of_a_cascade_the_last_stage_counts(tmp_path):
    rows = staged("gradient", "spearman_abs", fc2=DRIVEN, fc1=DRIVEN, conv=RESPONDS)
    assert read(tmp_path, CASCADE, rows).loc["gradient", "verdict"] == "below"


HALF = replace(CASCADE, stage=HALFWAY, words=HALF_WORDS, line=0.5)


@pytest.mark.parametrize(
    ("half", "words", "standing"),
    [
        ((0.51, 0.9), "most is left", "unwanted"),
        ((0.2, 0.49), "most is gone", "wanted"),
        ((0.4, 0.6), "inconclusive: the interval includes 0.5", "open"),
    ],
)
def test_the_upper_half_is_the_stage_with_half_of_the_blocks_random(
    tmp_path, half, words, standing
):
    """What an all-random network leaves says nothing of it, nor what one random block leaves."""
    rows = staged("gradient", "spearman_abs", fc=DRIVEN, b=half, a=RESPONDS, stem=RESPONDS)
    row = read(tmp_path, HALF, rows).loc["gradient"]
    assert (row["stage"], row["words"], row["standing"]) == ("b", words, standing)
    assert read(tmp_path, CASCADE, rows).loc["gradient", "standing"] == "wanted"


@pytest.mark.parametrize("shares", [(0.1, 1.0), (1.0,), None])
def test_without_such_a_stage_the_upper_half_is_not_guessed(tmp_path, shares):
    rows = [
        reading("gradient", "spearman_abs", DRIVEN, stage=str(i), position=i, random=share)
        for i, share in enumerate(shares or (0.5, 1.0))
    ]
    if shares is None:
        rows = [{key: row[key] for key in row if key != "random"} for row in rows]
    with pytest.raises(ValueError, match=r"02_a-cnn-readings\.parquet has no stage with the upper"):
        read(tmp_path, HALF, rows)


@pytest.mark.parametrize(
    ("blocks", "stage", "verdict"),
    [
        ({"fc": RESPONDS, "conv": DRIVEN, "stem": OPEN}, "conv", "above"),
        ({"fc": (0.6, 0.7), "conv": (0.7, 0.8), "stem": (0.5, 0.6)}, "conv", "above"),
        ({"fc": (-0.02, 0.01), "conv": (-0.02, 0.08), "stem": (-0.5, 0)}, "conv", "below"),
        ({"fc": (0.03, 0.09), "conv": (-0.2, 0.2), "stem": (0, 0.01)}, "conv", "inconclusive"),
    ],
)
def test_of_single_blocks_the_one_noticed_least_counts(tmp_path, blocks, stage, verdict):
    """The highest kappa, but one that is decided never hides one that is open."""
    check = replace(CASCADE, stage=ONE_BLOCK)
    rows = staged("gradient", "spearman_abs", **blocks | {WHOLE: (0.95, 0.99)})
    other = staged("noise", "spearman_abs", **dict.fromkeys([*blocks, WHOLE], RESPONDS))
    table = read(tmp_path, check, rows + other)
    assert tuple(table.loc["gradient", ["stage", "verdict"]]) == (stage, verdict)
    assert (table.loc["gradient", "low"], table.loc["gradient", "high"]) == blocks[stage]
    assert table.loc["noise", "verdict"] == "below"


def test_a_pair_without_a_row_has_a_reason(tmp_path):
    other = replace(CASCADE, key="other", source=Source("05_b", "cnn", "free"), asked="Not asked.")
    put(tmp_path, CASCADE.source.file, [reading("gradient", "spearman_abs", RESPONDS)])
    put(tmp_path, other.source.file, [reading(m, "spearman_abs", DRIVEN) for m in ("cgi", "sobel")])
    refused = pd.DataFrame({"method": ["competitive_gradient_x_input"], "reason": ["No layer."]})
    write_table(refused, tmp_path / "tables" / "02_a-cnn-refused.parquet")
    table = read_scoreboard(tmp_path, [CASCADE, other])
    assert reasons(table, tmp_path, [CASCADE, other]) == {
        ("cgi", CASCADE.key): "No layer.",
        ("sobel", CASCADE.key): "Not measured.",
        ("gradient", "other"): "Not asked.",
    }


def test_attention_is_asked_where_there_is_a_class_token(tmp_path):
    source = Source("02_a", "vit", "verdicts")
    tokens = replace(CASCADE, key="tokens", source=source)
    other = replace(tokens, key="other", source=replace(source, table="other"), asked="Not asked.")
    put(tmp_path, CASCADE.source.file, [reading("gradient", "spearman_abs", RESPONDS)])
    put(tmp_path, source.file, [reading("attention", "spearman_abs", RESPONDS)])
    put(tmp_path, other.source.file, [reading("gradient", "spearman_abs", RESPONDS)])
    checks = [CASCADE, tokens, other]
    found = reasons(read_scoreboard(tmp_path, checks), tmp_path, checks)
    assert found == {
        ("attention", "cascade"): "Needs a class token that attends to patches, which this "
        "network lacks.",
        ("gradient", "tokens"): "Not measured.",
        ("attention", "other"): "Not asked.",
    }


@pytest.mark.parametrize(("name", "key"), TWINS.items())
def test_a_twin_is_the_catalogues_competition_of_its_base(name, key):
    base = name.removeprefix(TWIN)
    assert repr(resolve(key)) == repr(Compete(resolve(base)))


def test_no_twin_of_the_catalogue_is_forgotten():
    competing = {key for key, card in CATALOGUE.items() if isinstance(card.build(), Compete)}
    assert set(TWINS.values()) == competing


def test_twins_stand_under_the_catalogues_name(tmp_path):
    names = [*TWINS, "gradient_x_input", f"{TWIN}noise"]
    rows = [reading(name, "spearman_abs", RESPONDS) for name in names]
    table = read(tmp_path, CASCADE, rows)
    assert set(table.index) == {*TWINS.values(), "gradient_x_input", f"{TWIN}noise"}
    assert method_title(f"{TWIN}noise") == "Noise (competitive)"
    assert in_order(table.index)[1] == [f"{TWIN}noise"], "a control, although in no catalogue"


def test_the_catalogues_own_competition_keeps_its_title():
    """Its names begin as those of twins that the catalogue does not have."""
    for key in TWINS.values():
        assert method_title(key) == CATALOGUE[key].title
    assert {key for key in TWINS.values() if key.startswith(TWIN)} == {
        "competitive_ig",
        "competitive_lrp",
    }


def test_methods_come_in_the_catalogues_order_and_controls_apart():
    given = ["noise", "my:own", "sobel", "gradient_x_input", "gradient", f"{TWIN}noise"]
    methods, controls = in_order(given)
    assert methods == ["gradient", "gradient_x_input", "my:own"]
    assert controls == ["sobel", "noise", f"{TWIN}noise"]
    assert method_title("my:own") == "own"


@pytest.mark.parametrize(
    ("interval", "given", "verdict", "words"),
    [
        ((0.9995, 1.0), {}, "above", "the same map"),
        ((0.8, 0.9), {}, "below", "another map"),
        ((0.05, 0.3), {}, "below", "another map"),
        ((0.99, 1.0), {}, "inconclusive", "inconclusive: the interval includes 0.999"),
        (
            (0.9999, 1.0),
            {"verdict": "inconclusive", "obstacle": "no_room", "chance": 0.9981, "notes": ""},
            "inconclusive",
            "inconclusive: chance is 0.998: the metric cannot tell maps apart",
        ),
    ],
)
def test_a_line_of_its_own_decides(tmp_path, interval, given, verdict, words):
    """An interval about the margin is far below 0.999; what has no verdict does not get one."""
    check = replace(CASCADE, words=UNIT_WORDS, wanted="above", line=0.999)
    table = read(tmp_path, check, [reading("gradient", "spearman_abs", interval, **given)])
    assert tuple(table.loc["gradient", ["verdict", "words"]]) == (verdict, words)
    standing = {"above": "wanted", "below": "unwanted", "inconclusive": "open"}
    assert table.loc["gradient", "standing"] == standing[verdict]
    obstacle = given.get("obstacle", "line_inside") if verdict == "inconclusive" else ""
    assert table.loc["gradient", "obstacle"] == obstacle


@pytest.mark.parametrize(
    ("interval", "ceiling", "verdict"),
    [
        ((0.1, 0.3), 0.4, "cannot tell"),
        ((0.1, 0.6), 0.4, "cannot tell"),
        ((0.1, 0.3), 0.6, "below"),
        ((0.6, 0.7), 0.4, "above"),
    ],
)
def test_a_ceiling_below_a_line_leaves_nothing_to_be_lost(tmp_path, interval, ceiling, verdict):
    check = replace(CASCADE, line=0.5)
    row = reading("gradient", "spearman_abs", interval, ceiling=ceiling, ceiling_kind="seeds")
    found = read(tmp_path, check, [row]).loc["gradient"]
    assert found["verdict"] == verdict
    assert (found["obstacle"] == "low_ceiling") == (verdict == "cannot tell")
    assert ("kappa 0.40" in found["words"]) == (verdict == "cannot tell")


def test_why_a_verdict_is_open_stands_as_key_and_in_words(tmp_path):
    rows = [reading(name, "spearman_abs", OPEN, images=3) for name in ("gradient", "sobel")]
    rows[1] |= {"obstacle": "few_images", "notes": "of_images:20"}
    table = read(tmp_path, CASCADE, rows)
    assert table["obstacle"].tolist() == ["margin_inside", "few_images"]
    assert table["words"].tolist() == [
        "inconclusive: the interval includes the margin 0.1",
        "inconclusive: too few images: 3 of 20 with a defined similarity, where 5 are needed",
    ]


def test_an_obstacle_that_nobody_knows_is_refused(tmp_path):
    rows = [reading("gradient", "spearman_abs", OPEN, obstacle="margin_inner")]
    with pytest.raises(ValueError, match=r"unknown obstacle 'margin_inner'\. Nearest: margin_insi"):
        read(tmp_path, CASCADE, rows)


def test_a_metric_that_the_table_lacks_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"02_a-cnn-readings\.parquet: unknown metric 'spearman_ab"
    ):
        read(tmp_path, CASCADE, [reading("gradient", "spearman_signed", RESPONDS)])


def test_two_readings_of_one_method_are_refused(tmp_path):
    rows = [reading(name, "spearman_abs", RESPONDS) for name in ("cgi", next(iter(TWINS)))]
    with pytest.raises(ValueError, match="'cgi' has several readings"):
        read(tmp_path, CASCADE, rows)


def test_methods_are_counted_where_an_answer_is_wanted(tmp_path):
    asked = [check for check in CHECKS if check.wanted == "below"]
    table = board(tmp_path)
    # Gradient throughout, gradient x input never, the own one open; controls are not methods.
    assert tally(table, asked) == {"methods": 3, "open": 1, "wanted": 1, "unwanted": 1}
    first = (table["method"] == "gradient") & (table["check"] == asked[0].key)
    table.loc[first, "standing"] = "open"
    assert tally(table, asked) == {"methods": 3, "open": 2, "wanted": 0, "unwanted": 1}
    neutral = [check for check in CHECKS if not check.wanted]
    assert tally(table, neutral) == {"methods": 0, "open": 0, "wanted": 0, "unwanted": 0}


def test_another_margin_moves_what_it_decides_and_nothing_else(tmp_path):
    """What another reason keeps open stays open; a check with a line of its own never asks."""
    checks = [check for check in CHECKS if check.key in ("labels_cnn", "upper_cnn", "units_cnn")]
    results = moving(tmp_path, checks)
    own, boards = read_scoreboard(results, checks), at_margins(results, checks)
    assert list(boards) == [0.05, 0.1, 0.2]
    kept = own["check"] != "labels_cnn"
    for place, other in enumerate(boards.values()):
        found = other.set_index(["method", "check"])["standing"]
        for method, (_, _, *standings) in MOVING.items():
            assert found[method, "labels_cnn"] == standings[place], method
        pd.testing.assert_frame_equal(other[kept], own[kept])
    assert all("a line of its own" in text for text in own.loc[kept, "held"])
    pd.testing.assert_frame_equal(boards[0.1], own)


def test_with_another_margin_another_block_may_be_noticed_least(tmp_path):
    """One that is open comes before one that is decided, and both hang on the margin."""
    check = replace(CASCADE, stage=ONE_BLOCK)
    blocks = {"fc": (0.02, 0.22), "conv": (0.13, 0.19)}
    put(tmp_path, check.source.file, staged("gradient", "spearman_abs", **blocks))
    found = {
        margin: tuple(board.loc[0, ["stage", "verdict"]])
        for margin, board in at_margins(tmp_path, [check]).items()
    }
    assert found == {
        0.05: ("conv", "above"), 0.1: ("conv", "above"), 0.2: ("fc", "inconclusive")
    }  # fmt: skip


def test_a_table_of_an_earlier_version_is_named(tmp_path):
    check = replace(CASCADE, stage=ONE_BLOCK)
    rows = staged("gradient", "spearman_abs", fc=(0.02, 0.22), conv=(0.13, 0.19))
    for row in rows:
        del row["sure_low"]
    put(tmp_path, check.source.file, rows)
    with pytest.raises(ValueError, match=r"lacks column 'sure_low'.*run its notebook again"):
        at_margins(tmp_path, [check])


def test_shares_of_the_edges_kappa_are_held_against_their_own_line(tmp_path):
    check = next(check for check in CHECKS if check.key == "edges")
    row = reading("gradient", check.metric, (0.4, 0.5)) | {
        "verdict": "above", "share": 0.7, "share_low": 0.6, "share_high": 0.8, "share_line": 0.5,
        "share_sure_low": 0.6,
        "ceiling": 0.6, "ceiling_low": 0.15, "ceiling_high": 0.7, "ceiling_kind": "detector",
    }  # fmt: skip
    put(tmp_path, check.source.file, [row])
    boards = at_margins(tmp_path, [check])
    assert [board.loc[0, "verdict"] for board in boards.values()] == [
        "above", "above", "cannot tell"
    ]  # fmt: skip
    assert boards[0.1].loc[0, "held"] == (
        "its share of the kappa of Canny's edges, 0.70 (0.60 to 0.80), compared with 0.5"
    )
