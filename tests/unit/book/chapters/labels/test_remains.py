"""What remains: correct sentences for every combination of readings, and no claim beyond them."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from saliency_sanity.book.chapters.labels.remains import what_remains
from saliency_sanity.verdict.reading import read

MARGIN = 0.1
NONZERO = "spearman_abs_not_zero"
NO_VERDICT = "chance is 0.990: the metric cannot tell maps apart"


def reading(method="gradient", metric="spearman_abs", kappa=0.5, wide=0.02, obstacle="", **beside):
    """A row of readings; ``true``, ``permuted`` and ``noise`` give a reference's kappa."""
    low, high = kappa - wide, kappa + wide
    verdict = "below" if high < MARGIN else "above" if low > MARGIN else "inconclusive"
    row = {"method": method, "metric": metric, "kappa": kappa, "low": low, "high": high}
    row |= {"margin": MARGIN, "seeds": beside.pop("seeds", 3), "chance": 0.99, "notes": ""}
    row["obstacle"] = obstacle or "margin_inside" * (verdict == "inconclusive")
    row["verdict"] = "inconclusive" if obstacle else verdict
    for name in ("true", "permuted", "noise"):
        level = beside.get(name, math.nan)
        row |= {f"{name}_kappa": level, f"{name}_low": level - wide, f"{name}_high": level + wide}
        row |= {f"{name}_excess_low": low - level, f"{name}_excess_high": high - level}
    return row


def said(*rows):
    return what_remains(pd.DataFrame(rows), rows[0]["method"], MARGIN)


LEVELS = (math.nan, -0.001, 0.1, 0.3, 0.9)
ALL = [
    (kappa, wide, dict(zip(("true", "permuted", "noise"), references, strict=True)), nonzero)
    for kappa in LEVELS[1:]
    for wide in (0.004, 0.3)
    for references in itertools.product((math.nan, -0.001, 0.3, 0.9), repeat=3)
    for nonzero in (None, 0.0, 0.3, "open")
]


def test_every_combination_is_two_or_three_correct_sentences():
    texts = set()
    for kappa, wide, references, nonzero in ALL:
        rows = [reading(kappa=kappa, wide=wide, **references)]
        if nonzero is not None:
            broken = nonzero == "open"
            rows.append(
                reading(
                    metric=NONZERO,
                    kappa=math.nan if broken else nonzero,
                    obstacle="no_room" * broken,
                    **references,
                )
            )
        text = said(*rows)
        texts.add(re.sub(r"[0-9.]+", "#", text))
        assert len(re.findall(r"\.(?= |$)", text)) == 2 + (nonzero is not None), text
        assert "-0.00" not in text
        assert not re.search(r"nan|–|  |,,|\( |\(\)|;\.|,\.| [,.;]", text), text
        assert text.count("(") == text.count(")"), text
        assert re.match(r"\*\*Gradient\*\*: by absolute ranks, kappa is ", text), text
        assert all(part.lstrip("*")[0].isupper() for part in re.split(r"(?<=\.) ", text)), text
        # What explains a map is said only of one that is there.
        there = kappa - wide > MARGIN
        assert ("no more than the" in text or "on any labels" in text) <= there
        assert ("Less than the margin" in text) == (kappa + wide < MARGIN)
        assert ("remains is open" in text) == (not there and kappa + wide >= MARGIN)
        # Rules of the references, by the intervals themselves.
        row = rows[0]
        noise = there and row["noise_excess_high"] < MARGIN
        permuted = there and row["permuted_excess_high"] < MARGIN
        assert ("nput ⊙ noise agrees as much or more" in text) == (noise and not permuted), text
        assert ("nput ⊙ noise" in text and "agree as much or more" in text) >= (noise and permuted)
        assert ("agree as much or more" in text) == permuted, text
        matter = row["true_excess_high"] < 0 and row["true_excess_low"] <= -MARGIN
        assert ("the labels matter" in text and "whether" not in text) <= matter, text
        assert ("no room" in text) == (row["true_high"] < MARGIN)
        assert ("little room" in text) == (MARGIN <= row["true_high"] < 0.5)
    assert len(texts) > 30


@pytest.mark.parametrize("metrics", [(), (NONZERO,), ("spearman_signed", "ssim", "hog")])
def test_a_reading_without_a_verdict_says_why_and_nothing_else(metrics):
    rows = [reading(kappa=math.nan, obstacle="no_room", true=0.9, noise=0.9)]
    rows += [reading(metric=metric, kappa=0.3) for metric in metrics]
    text = said(*rows)
    assert text.startswith(f"**Gradient**: by absolute ranks, there is no verdict ({NO_VERDICT}).")
    for words in ("seed", "⊙", "margin", "the labels"):
        assert words not in text


def test_the_zero_background_alone_explains_what_is_gone_elsewhere():
    product = {"method": "gradient_x_input", "kappa": 0.9, "true": 0.92, "noise": 0.9}
    alone = said(reading(**product), reading(**product | {"metric": NONZERO, "kappa": 0.0}))
    assert "needs no more than the input's zero background; " in alone
    bright = said(reading(**product), reading(**product | {"metric": NONZERO, "kappa": 0.3}))
    assert "the input's zero background and brightness; " in bright
    assert "more remains than this explains" not in bright
    beyond = product | {"metric": NONZERO, "kappa": 0.6, "noise": 0.2}
    assert "where the input is not zero, more remains than this explains" in said(
        reading(**product), reading(**beyond)
    )


@pytest.mark.parametrize("metric", ["spearman_abs", "ssim"])
@pytest.mark.parametrize(
    ("method", "product"),
    [
        ("guided_backprop", False),
        ("modified_rectgrad", False),
        ("gradient", False),
        ("grad_cam", False),
        ("rectgrad", True),
        ("integrated_gradients", True),
        ("lrp_epsilon", True),
    ],
)
def test_only_a_product_owes_its_agreement_to_the_input(method, product, metric):
    rows = [reading(method=method, metric=metric, kappa=0.9, true=0.92, noise=0.9)]
    rows.append(reading(method=method, metric=NONZERO, kappa=0.0))
    text = said(*rows)
    assert ("needs no more than the input" in text) == product
    assert ("zero background" in text) == (product and metric == "spearman_abs")
    assert ("agreement of this size needs no network" in text) != product


def test_the_control_is_not_held_against_itself():
    text = said(reading(method="input_x_noise", kappa=0.9, true=0.9, permuted=0.9, noise=0.9))
    assert text.count("nput ⊙ noise") == 1


def test_one_pair_of_networks_has_no_ceiling():
    text = said(reading(kappa=0.9, noise=0.9, seeds=1))
    assert text.endswith("with one pair of networks there is no ceiling.")


def test_all_metrics_are_named_once_in_words():
    metrics = ("spearman_abs", "spearman_signed", NONZERO, "spearman_signed_not_zero")
    rows = [reading(metric=metric, true=0.6) for metric in (*metrics, "ssim", "hog")]
    text = said(*rows)
    for words in ("with signs,", "by SSIM and", "by HOG.", "input is not zero,"):
        assert words in text
    assert "spearman" not in text


def test_without_absolute_ranks_the_first_metric_leads():
    product = {"method": "gradient_x_input"}
    rows = reading(**product, metric="ssim", kappa=0.9, noise=0.9), reading(**product, metric="hog")
    text = said(*rows)
    assert text.startswith("**Gradient ⊙ input**: by SSIM, kappa is 0.90")
    assert "needs no more than the input;" in text


def test_readings_as_they_are_made_are_understood():
    # The words hang on the obstacles that verdict.read gives.
    rng = np.random.default_rng(0)
    squares = {
        "open": 0.1 * np.eye(8) + 0.1 * rng.standard_normal((2, 8, 8)),
        "few": np.eye(3)[None] + 0.1,
        "full": np.full((1, 8, 8), 0.99) + 0.001 * rng.standard_normal((1, 8, 8)),
        "gone": np.full((1, 8, 8), np.nan),
    }
    texts = {}
    for name, square in squares.items():
        made = read(square, margin=MARGIN)
        assert made.verdict == "inconclusive"
        texts[name] = said(reading(kappa=made.kappa) | made.row())
    assert "remains is open" in texts.pop("open")
    for text in texts.values():
        assert re.fullmatch(
            r"\*\*Gradient\*\*: by absolute ranks, there is no verdict \([^()]+\)\.", text
        )


def test_unknown_methods_and_other_margins_are_refused():
    readings = pd.DataFrame([reading()])
    with pytest.raises(ValueError, match=r"unknown method 'gradent'.*Nearest: gradient"):
        what_remains(readings, "gradent", MARGIN)
    with pytest.raises(ValueError, match=r"margin is 0\.3"):
        what_remains(readings, "gradient", 0.3)
