from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from made.networks import SmallNet, draw, seeded
from saliency_sanity import Classifier, Scaling
from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import Gradient
from saliency_sanity.attribution.catalogue import resolve
from saliency_sanity.attribution.compose import Rectified, TimesInput
from saliency_sanity.attribution.rectifiers import Guided
from saliency_sanity.experiments.label_permutation import (
    ACROSS,
    CONTROL,
    PERMUTED,
    TRUE,
    Agreement,
)
from saliency_sanity.experiments.store import Store
from saliency_sanity.similarity.metrics import metric
from torch import nn

METRICS = {"spearman_abs": metric("spearman_abs"), "ssim": metric("ssim")}
IMAGES = 6


def network(seed: int) -> Classifier:
    return Classifier(
        seeded(SmallNet(), seed).eval(),
        name="small",
        weights=f"seed {seed}",
        scaling=Scaling((0.5,) * 3, (0.5,) * 3),
        size=16,
    )


@dataclass(frozen=True)
class Counted:
    """The gradient; counts its calls, and is interrupted at one of them."""

    calls: ClassVar[list[int]] = []
    fuse: ClassVar[int] = 0

    def __call__(self, model, x, target):
        self.calls.append(len(x))
        if len(self.calls) == self.fuse:
            raise KeyboardInterrupt
        return Gradient()(model, x, target)


@pytest.fixture(autouse=True)
def counted():
    Counted.calls.clear()
    Counted.fuse = 0
    return Counted.calls


def made(**changes) -> Agreement:
    settings = {
        "true": [network(0), network(1)],
        "permuted": [network(2), network(3)],
        "x": draw(IMAGES, 3, 16, 16, seed=5),
        "methods": {"gradient": Gradient(), CONTROL: resolve(CONTROL), "input": resolve("input")},
        "metrics": METRICS,
    }
    return Agreement(**settings | changes)


def test_matrices_are_those_of_the_networks_maps():
    agreement = made()
    agreed = agreement()
    maps = []
    for model in [*agreement.true, *agreement.permuted]:
        with torch.no_grad():
            target = model(agreement.x).argmax(1)
        maps.append(Gradient()(model, agreement.x, target))
    pairs = {ACROSS: [(0, 2), (1, 3)], TRUE: [(0, 1)], PERMUTED: [(2, 3)]}
    for key, similarity in METRICS.items():
        for kind, chosen in pairs.items():
            found = agreed.matrices["gradient", key, kind]
            assert found.shape == (len(chosen), IMAGES, IMAGES)
            for square, (a, b) in zip(found, chosen, strict=True):
                for shift in range(IMAGES):  # every diagonal, each by the paired call
                    own = similarity(maps[a], maps[b].roll(-shift, 0)).numpy()
                    rows = np.arange(IMAGES)
                    np.testing.assert_allclose(
                        square[rows, (rows + shift) % IMAGES], own, rtol=1e-9, atol=1e-12
                    )


def test_known_controls_get_their_verdicts():
    methods = {"noise": resolve("noise"), "input": resolve("input"), CONTROL: resolve(CONTROL)}
    many = {"true": [network(k) for k in range(3)], "permuted": [network(k) for k in range(3, 6)]}
    x = (draw(20, 3, 16, 16, seed=1) - 1).clamp_min(0)  # mostly zero, like garments
    rows = made(**many, x=x, methods=methods)().readings().set_index(["method", "metric"])
    for key in METRICS:
        assert rows.loc[("input", key), "kappa"] == pytest.approx(1)
        assert rows.loc[("input", key), "verdict"] == "above"
        # It is drawn from the weights, so that another training gives another one, too.
        assert rows.loc[("noise", key), "high"] < rows.loc[("noise", key), "margin"]
        assert rows.loc[("noise", key), "verdict"] == "cannot tell"
    absolute = rows.loc[(CONTROL, "spearman_abs")]
    assert absolute["verdict"] == "above"
    # Noise times the input does as much as itself, and as two networks of either kind.
    for reference in ("noise", "true", "permuted"):
        assert abs(absolute[f"{reference}_excess"]) < 0.05
    assert absolute["noise_excess"] == 0


def test_identical_networks_agree_completely():
    same = [network(0), network(1)]
    rows = made(true=same, permuted=[network(0), network(1)])().readings()
    assert rows["kappa"].tolist() == pytest.approx([1] * len(rows))
    gradient = rows[rows["method"] == "gradient"]
    # Two trainings then agree less than true and permuted labels.
    assert (gradient["true_excess"] > 0.5).all()


def test_excess_is_the_difference_of_kappas_and_intervals_hold_it():
    many = {"true": [network(k) for k in range(3)], "permuted": [network(k) for k in range(3, 6)]}
    for changes, networks in (({}, 2), (many, 3)):
        rows = made(**changes)().readings()
        for reference in ("true", "permuted", "noise"):
            excess = rows[f"{reference}_excess"]
            difference = rows["kappa"] - rows[f"{reference}_kappa"]
            assert np.allclose(excess, difference, rtol=1e-12, atol=1e-12)
            low, high = rows[f"{reference}_excess_low"], rows[f"{reference}_excess_high"]
            # Of two networks of a kind nothing tells how they differ; the control has the same.
            if networks == 2 and reference != "noise":
                assert low.isna().all()
                assert high.isna().all()
            else:
                assert ((low <= excess) & (excess <= high)).all()


def test_what_is_not_there_is_left_empty():
    alone = made(true=[network(0)], permuted=[network(2)], methods={"gradient": Gradient()})
    agreed = alone()
    row = agreed.readings().iloc[0]
    for reference in ("true", "permuted", "noise"):
        assert np.isnan(row[f"{reference}_kappa"])
        assert np.isnan(row[f"{reference}_excess"])
    assert np.isfinite(row["kappa"])
    assert set(agreed.measurements()["pair_of"]) == {ACROSS}


def test_measurements_are_the_diagonal_and_its_chance():
    agreed = made()()
    rows = agreed.measurements()
    assert len(rows) == 3 * len(METRICS) * (2 + 1 + 1) * IMAGES
    square = agreed.matrices["gradient", "ssim", ACROSS][1]
    chosen = rows.query("method == 'gradient' and metric == 'ssim' and draw == 1")
    chosen = chosen[chosen["pair_of"] == ACROSS].sort_values("image")
    assert chosen["similarity"].tolist() == square.diagonal().tolist()
    others = (square.sum(0) - square.diagonal()) / (IMAGES - 1)
    rows = (square.sum(1) - square.diagonal()) / (IMAGES - 1)
    near = np.minimum(abs(chosen["chance"] - others), abs(chosen["chance"] - rows))
    assert near.max() < 1e-12


def test_explained_classes():
    labels = torch.arange(IMAGES) % 5
    agreement = made(labels=labels)
    own = agreement().classes
    with torch.no_grad():
        found = [m(agreement.x).argmax(1) for m in (*agreement.true, *agreement.permuted)]
    assert own.tolist() == torch.stack(found).tolist()
    fixed = replace(agreement, explained="fixed")().classes
    assert fixed.tolist() == [found[0].tolist()] * 4
    assert replace(agreement, explained="label")().classes.tolist() == [labels.tolist()] * 4


def test_an_interrupted_run_goes_on(tmp_path, counted):
    agreement = made(methods={"gradient": Gradient(), "own": Counted()}, store=Store(tmp_path))
    whole = replace(agreement, store=None)().readings()
    counted.clear()
    Counted.fuse = 3
    with pytest.raises(KeyboardInterrupt):
        agreement()
    assert len(counted) == 3
    Counted.fuse = 0
    counted.clear()
    first = agreement().readings()
    assert len(counted) == 2, "two of four networks were explained before"
    pd.testing.assert_frame_equal(first, whole)
    counted.clear()
    pd.testing.assert_frame_equal(agreement().readings(), whole)
    assert not counted


def test_stored_maps_belong_to_network_pictures_class_and_method(tmp_path, counted):
    start = made(
        true=[network(0)], permuted=[network(1)], methods={"own": Counted()}, store=Store(tmp_path)
    )
    start()
    for change in (
        {"x": draw(IMAGES, 3, 16, 16, seed=6)},
        {"explained": "label", "labels": torch.arange(IMAGES) % 5},
        {"permuted": [network(4)], "true": [network(5)]},
    ):
        counted.clear()
        changed = replace(start, **change)
        agreed = changed()
        assert len(counted) == 2
        plain = replace(changed, store=None)()
        assert all(
            np.array_equal(agreed.matrices[key], plain.matrices[key]) for key in plain.matrices
        )


def test_pictures_are_of_the_shown_images():
    agreed = made(shown=2)()
    assert agreed.pictures.keys() == made().methods.keys()
    for absolute, signed in agreed.pictures.values():
        assert absolute.shape == signed.shape == (4, 2, 16, 16)
        assert absolute.min() >= 0
        assert absolute.max() <= 1
        assert abs(signed).max() <= 1
    # The input is the same under every network, the gradient is not.
    inputs, gradients = agreed.pictures["input"][0], agreed.pictures["gradient"][0]
    assert np.array_equal(inputs[0], inputs[3])
    assert not np.array_equal(gradients[0], gradients[3])
    assert not made()().pictures


class Smooth(nn.Module):
    """A network without a rectifier."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return torch.tanh(self.factor * x).mean((2, 3))


def test_a_method_that_does_not_apply_is_set_aside_with_its_reason():
    smooth = {"true": [Smooth(1.0)], "permuted": [Smooth(2.0)]}
    guided = Rectified(Gradient(), Guided())
    agreed = made(**smooth, methods={"guided": guided, "product": TimesInput(Gradient())})()
    assert "needs rectifiers" in agreed.refused["guided"]
    assert {key[0] for key in agreed.matrices} == {"product"}
    with pytest.raises(NotApplicable, match="none of the methods applies"):
        made(**smooth, methods={"guided": guided})()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"true": []}, "0 networks with true labels, 2 with permuted"),
        ({"permuted": [network(2)]}, "give as many of each"),
        ({"explained": "argmx"}, "Nearest: argmax"),
        ({"explained": "label"}, "needs labels for all 6 images"),
        ({"shown": 7}, "valid are 0 to 6"),
        ({"methods": {}}, "at least one method"),
    ],
)
def test_what_does_not_fit_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        made(**changes)
