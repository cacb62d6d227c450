"""Claims on randomization: what rests on a reading that cannot tell, cannot either."""

import numpy as np
import pytest
from saliency_sanity.book.chapters.cascade.claims import cascade_claims, independent_claims
from saliency_sanity.book.chapters.claims import ClaimTable
from saliency_sanity.experiments.outcome import stage_table
from saliency_sanity.randomization.blocks import WHOLE
from saliency_sanity.verdict.reading import read

MARGIN, IMAGES = 0.1, 8
KAPPAS = {
    "gradient": (0.02, 0.0, 0.0, 0.0),
    "guided_backprop": (0.9, 0.8, 0.4, 0.0),
    "gradient_x_input": (0.8, 0.8, 0.8, 0.8),
    "integrated_gradients": (0.8, 0.8, 0.8, 0.8),
}
RESPONDS, LOWER = "Gradient responds", "Guided backpropagation, lower layers"
UPPER, PRODUCTS = "Guided backpropagation, upper layers", "products with the input"


def square(kappa, seed, networks=2):
    values = 0.02 * np.random.default_rng(seed).standard_normal((networks, IMAGES, IMAGES))
    values[:, np.arange(IMAGES), np.arange(IMAGES)] += kappa
    return values


def verdicts(adding, stages, tops):
    """The verdicts by the claim's name, ceilings being ``tops`` of methods."""
    table = stage_table(
        {
            (method, "spearman_abs", stage): read(
                square(kappa, i), ceiling={"seeds": square(tops.get(method, 0.9), 9, 1)}
            )
            for method, kappas in KAPPAS.items()
            for i, (stage, kappa) in enumerate(zip(stages, kappas, strict=True))
        },
        {stage: (i + 1) / len(stages) for i, stage in enumerate(stages)},
    )
    claims = ClaimTable("cascade")
    adding(claims, table, None, MARGIN)
    return {claim.id.partition(", by")[0]: claim.verdict for claim in claims}


@pytest.mark.parametrize(
    ("low", "untold"),
    [((), set()), (("gradient",), {RESPONDS}), (("guided_backprop",), {LOWER}),
     (("gradient", "guided_backprop"), {RESPONDS, LOWER}), (("gradient_x_input",), set())],
)  # fmt: skip
def test_only_what_rests_on_a_low_ceiling_cannot_tell(low, untold):
    tops = dict.fromkeys(low, 0.01)
    found = verdicts(cascade_claims, ("fc", "three", "two", "one"), tops)
    assert {RESPONDS, LOWER, UPPER, PRODUCTS} <= set(found)
    # Above the margin a reading stays what it is.
    for name, verdict in found.items():
        assert verdict == ("cannot tell" if name in untold else "reproduced"), name


@pytest.mark.parametrize("noise", [0, 1e-3])
def test_attention_is_as_it_was_where_the_logits_alone_are_random(noise):
    stages, same = ("fc", "one"), square(0, 0)
    same[:, np.arange(IMAGES), np.arange(IMAGES)] = 1 - noise
    readings = {
        ("attention", "spearman_abs", stage): read(values)
        for stage, values in zip(stages, (same, square(0, 1)), strict=True)
    }
    claims = ClaimTable("cascade")
    cascade_claims(claims, stage_table(readings, {"fc": 0.5, "one": 1.0}), None, MARGIN)
    (claim,) = claims
    assert (claim.id, claim.about) == ("Attention holds no classifier", "Attention")
    assert claim.verdict == ("not reproduced" if noise else "reproduced")


def test_blocks_that_are_randomized_alone_are_held_to_it_too():
    stages = ("fc", "three", "two", WHOLE)
    high = verdicts(independent_claims, stages, {})
    low = verdicts(independent_claims, stages, {"gradient": 0.0})
    assert high["guided against gradient"] == "reproduced"
    assert low["guided against gradient"] == "cannot tell"
    assert high["products with the input"] == low["products with the input"] == "reproduced"
