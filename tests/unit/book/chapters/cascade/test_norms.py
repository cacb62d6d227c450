"""What becomes of batch norms: which verdicts hang on it, and which claims say so."""

import numpy as np
import pandas as pd
import pytest
from made.experiments import made
from made.networks import SCALING, seeded
from saliency_sanity import Classifier
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.compose import TimesInput
from saliency_sanity.book.chapters.cascade.claims import cascade_claims, norm_claims
from saliency_sanity.book.chapters.cascade.norms import (
    hanging,
    norm_sentence,
    norm_styled,
    norm_table,
)
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.experiments.variants import norm_policies, variants
from saliency_sanity.randomization.schemes import BATCH_NORM, Randomization
from saliency_sanity.verdict.reading import read
from torch import nn

METHODS = {"gradient": Gradient(), "gradient_x_input": TimesInput(Gradient())}


@pytest.mark.parametrize("now", BATCH_NORM)
def test_each_policy_is_measured_as_an_experiment_with_it_would(now):
    base = made(methods=METHODS, seeds=2, shown=0, randomization=Randomization(batch_norm=now))
    tried = variants(base, METHODS)
    found = {policy: tried[name]() for policy, name in norm_policies(base, tried).items()}
    assert set(found) == set(BATCH_NORM)
    assert next(iter(found)) == now
    for policy, outcome in found.items():
        alone = made(
            methods=METHODS, seeds=2, shown=0, order="full",
            randomization=Randomization(batch_norm=policy),
        )()  # fmt: skip
        for key, matrix in alone.matrices.items():
            np.testing.assert_array_equal(outcome.matrices[key], matrix)
    table = norm_table(found, 0.1)
    assert table["policy"].unique().tolist() == list(found)
    assert set(table["method"]) == set(METHODS)


def test_a_network_without_batch_norms_has_no_such_choice():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    model = Classifier(
        seeded(network).eval(), name="plain", weights="random", scaling=SCALING, size=16
    )
    base = made(model=model, methods=METHODS, seeds=1, shown=0)
    assert norm_policies(base, variants(base, METHODS)) == {}
    assert norm_policies(base, {}) == {}


def square(kappa, seed):
    values = 0.02 * np.random.default_rng(seed).standard_normal((5, 8, 8))
    values[:, np.arange(8), np.arange(8)] += kappa
    return values


def rows(**kappas):
    """Readings by policy, for each method the kappas with keep, reset and recalibrate."""
    parts = []
    for method, by_policy in kappas.items():
        for seed, (policy, kappa) in enumerate(zip(BATCH_NORM, by_policy, strict=True)):
            found = read(square(kappa, seed)).row()
            parts.append(
                {"method": method, "metric": "spearman_abs", "stage": "all", "policy": policy}
                | found
            )
    return pd.DataFrame(parts).assign(position=0)


GIVEN = {
    "gradient": (0.0, 0.02, 0.01),  # responds with all
    "gradient_x_input": (0.1, 0.43, 0.4),  # open, then picture-driven
    "guided_backprop": (0.0, 0.3, 0.0),  # responds, and does not
    "grad_cam": (0.3, 0.6, 0.9),  # far apart, and of one verdict
}


def test_a_verdict_hangs_on_the_policy_only_where_it_is_another_and_intervals_are_apart():
    table = rows(**GIVEN)
    found = {method for method, _ in hanging(table)}
    wanted = set()
    for method, part in table.groupby("method"):
        ends = part[["low", "high", "verdict"]].to_numpy().tolist()
        for low, high, verdict in ends:
            for low_2, high_2, verdict_2 in ends:
                if verdict != verdict_2 and max(low, low_2) > min(high, high_2):
                    wanted.add(method)
    assert found == wanted == {"gradient_x_input", "guided_backprop"}


def test_the_sentence_and_the_table_name_the_same_methods():
    table = rows(**GIVEN)
    said = norm_sentence(table, "spearman_abs")
    assert "2 of 4 verdicts depend" in said
    shown = norm_styled(table, "spearman_abs")
    hung = shown.data["verdict depends on it"]
    for name, word in hung.items():
        assert (f"{name}, keep " in said) == (word == "yes")
    assert hung.tolist().count("yes") == 2
    kappas = table[table["method"] == "grad_cam"]["kappa"]
    assert (
        shown.data.loc["Grad-CAM", "range of kappa"] == f"{kappas.min():.2f} to {kappas.max():.2f}"
    )
    assert "do not overlap" in shown.caption
    none = norm_sentence(rows(gradient=(0.0, 0.0, 0.0)), "spearman_abs")
    assert "0 of 1 verdicts depend" in none
    assert none.endswith("(keep, reset, recalibrate).")


def test_claims_cannot_tell_where_the_policy_decides_and_others_say_what_they_rest_on():
    table = rows(**GIVEN)
    claims = ClaimTable("x")
    norm_claims(claims, table, "spearman_abs", 0.1)
    assert {claim.about: claim.verdict for claim in claims} == {
        "Gradient": "reproduced",
        "Gradient ⊙ input": "cannot tell",
        "Guided backpropagation": "cannot tell",
        "Grad-CAM": "not reproduced",
    }
    assert all(claim.meant.kind == "own" for claim in claims)

    kept = table[table["policy"] == "keep"]
    papers = ClaimTable("x")
    stages = [
        kept.assign(stage=s, position=i, random=(i + 1) / 2) for i, s in enumerate(("a", "b"))
    ]
    cascade_claims(papers, pd.concat(stages), None, 0.1, norms=table)
    hangs = {claim.of: "depends on how batch norms are treated" in claim.reason for claim in papers}
    assert hangs["products-stay"]
    assert hangs["lower-layers-change"]
    assert not hangs["upper-layers-leave"], "it rests on the first stage alone"
    assert not hangs["weights-change"]
    assert all("Gradient ⊙ input" in c.reason for c in papers if c.of == "products-stay")
