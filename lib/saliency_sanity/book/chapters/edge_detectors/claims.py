"""What was claimed of maps and edges, held against our readings."""

from collections.abc import Iterable, Sequence

import pandas as pd

from saliency_sanity.attribution.catalogue import is_control, title
from saliency_sanity.book.chapters.claims import ClaimTable, judge
from saliency_sanity.book.chapters.edge_detectors.one_layer import JUMPS
from saliency_sanity.verdict.obstacle import CANNOT_TELL
from saliency_sanity.verdict.robustness import LINES, at_line
from saliency_sanity.verdict.wording import METRIC_TITLES, kappa_text, rounded, share_text

_PAPER = "Adebayo et al. 2018"
_PICTURES = "shown in pictures"
# Relative distance up to which two ways to the same map agree.
_CLOSED, _LINEAR = 1e-6, 1e-5


def picture_claims(claims: ClaimTable, readings: pd.DataFrame, metrics: Iterable[str]) -> None:
    """Add what [adebayo2018sanity], figure 1, shows of edges, two claims a metric.

    ``readings`` are of the maps against the edges, as shares of what Canny's edges have, with the
    catalogue's names of methods. Controls do not count, and of the second only methods that were
    run.
    """
    for key in metrics:
        rows = readings[readings["metric"] == key].set_index("method")
        rows = rows[[not is_control(name) for name in rows.index]]
        _any_edge_like(claims, rows, key)
        guided = [name for name in ("guided_backprop", "guided_grad_cam") if name in rows.index]
        if guided:
            claims.add(
                f"figure 1, guided, by {METRIC_TITLES[key]}",
                "Guided backpropagation and guided Grad-CAM look like the edges of the picture.",
                source=f"{_PAPER}, figure 1 (our reading of the picture)",
                paper_said=_PICTURES,
                measured="; ".join(f"{title(name)} {_shared(rows.loc[name])}" for name in guided),
                chance="kappa 0",
                verdict=judge(rows.loc[guided, "verdict"]),
                reason=f"reproduced if every share's interval lies above {_line(rows)}",
                of="guided-like-edges",
                by=key,
            )


def _any_edge_like(claims: ClaimTable, rows: pd.DataFrame, metric: str) -> None:
    count = rows["verdict"].value_counts()
    said = {"above": "edge-like", "inconclusive": "inconclusive", "below": "not"}
    counted = [f"{count.get(word, 0)} {text}" for word, text in said.items()]
    if CANNOT_TELL in count:
        counted.append(f"{count[CANNOT_TELL]} cannot be told")
    elsewhere = [
        f"{(at_line(rows, line)['verdict'] == 'above').sum()} with a line at {line:g}"
        for line in LINES
        if not (rows["share_line"] == line).all()
    ]
    highest = rows["kappa"].idxmax() if rows["kappa"].notna().any() else None
    claims.add(
        f"figure 1, by {METRIC_TITLES[metric]}",
        "An edge detector, which knows neither model nor data, gives maps that look like those of "
        "several methods.",
        source=f"{_PAPER}, section 5.4 and figure 1",
        paper_said=_PICTURES,
        measured=f"{', '.join(counted)} ({', '.join(elsewhere)} edge-like)"
        + (f"; highest {title(highest)}, kappa {_shared(rows.loc[highest])}" if highest else ""),
        chance=f"similarity {rounded(rows['chance'].mean())}, kappa 0",
        verdict="reproduced" if count.get("above", 0) > 1 else judge(rows["verdict"]),
        reason=f"reproduced if the intervals of at least two shares lie above {_line(rows)}",
        of="edges-like-methods",
        by=metric,
    )


def product_claims(
    claims: ClaimTable, readings: pd.DataFrame, products: pd.DataFrame, metric: str
) -> None:
    """Add what [adebayo2018sanity] says of products with the input.

    ``readings`` are of the maps against the product of input and edges, by ``metric``;
    ``products`` of pictures times noise against the same pictures times other noise, by any.
    """
    rows = readings[readings["metric"] == metric].set_index("method")
    multiplied = [
        name for name in ("gradient_x_input", "integrated_gradients") if name in rows.index
    ]
    if multiplied:
        alone = [name for name in ("input", "input_x_noise") if name in rows.index]
        claims.add(
            "figure 37B",
            "Input times edges looks like gradient ⊙ input and integrated gradients.",
            source=f"{_PAPER}, section 5.4 and figure 37",
            paper_said=_PICTURES,
            measured=_kappas(rows, multiplied),
            chance="; ".join(["kappa 0", *(_kappas(rows, [name]) for name in alone)]),
            verdict=judge(rows.loc[multiplied, "verdict"]),
            reason="reproduced if both intervals lie above the margin, by "
            f"{METRIC_TITLES[metric]}; the other kappas under chance are what the input reaches "
            "without any edge detector",
            of="edges-times-input",
            by=metric,
        )
    absolute = products[products["metric"] == "spearman_abs"]
    if len(absolute):
        claims.add(
            "figure 19",
            "In a product with the input, the input dominates: two unrelated factors give similar "
            "maps.",
            source=f"{_PAPER}, section 5.2 and figure 19",
            paper_said=_PICTURES,
            measured=f"similarity {absolute['similarity'].min():.2f} to "
            f"{absolute['similarity'].max():.2f}, kappa {absolute['kappa'].min():.2f} to "
            f"{absolute['kappa'].max():.2f}",
            chance=f"{rounded(absolute['chance'].min())} to {rounded(absolute['chance'].max())}",
            verdict=judge(absolute["verdict"]),
            reason="reproduced if kappa, by absolute ranks, lies above the margin for all of them",
            of="input-dominates",
            by="spearman_abs",
        )


def layer_claims(
    claims: ClaimTable, readings: pd.DataFrame, metric: str, closed: float, linear: float
) -> None:
    """Add what [adebayo2018sanity], section 5.3, says of one random convolution.

    ``readings`` of its maps against the edges have methods ``G`` and ``JUMPS``; ``closed`` is
    how far the gradient is from its closed form, ``linear`` how far maps of a linear network are
    from its weights, both relative to the largest value.
    """
    rows = readings[readings["metric"] == metric].set_index("method")
    jumps = rows.loc[JUMPS]
    claims.add(
        "figure 7",
        "One random convolution already draws edges: its gradient jumps where the picture has "
        "edges.",
        source=f"{_PAPER}, section 5.3 and figure 7",
        paper_said=_PICTURES,
        measured=f"jumps of the gradient {_shared(jumps)}; the gradient itself "
        f"{_shared(rows.loc['G'])}",
        chance=f"similarity {rounded(jumps['chance'])}, kappa 0",
        verdict=judge([jumps["verdict"]]),
        reason=f"reproduced if the interval of the jumps' share lies above {_line(rows)}",
        of="one-layer-edges",
        by=metric,
    )
    claims.add(
        "section 5.3, convolution",
        "The gradient of that network has the closed form above.",
        source=f"{_PAPER}, section 5.3",
        paper_said="derived",
        measured=f"largest relative difference {closed:.1e}",
        verdict="reproduced" if closed < _CLOSED else "not reproduced",
        reason="reproduced if automatic differentiation agrees to 1e-6, borders included",
        of="one-layer-closed",
    )
    claims.add(
        "section 5.3, linear",
        "For a linear network gradient and SmoothGrad are its weights, whatever the picture.",
        source=f"{_PAPER}, section 5.3",
        paper_said="derived",
        measured=f"largest relative difference {linear:.1e}",
        verdict="reproduced" if linear < _LINEAR else "not reproduced",
        reason="reproduced if both maps equal the weights to 1e-5, the rounding of the noise's "
        "mean",
        of="linear-is-weights",
    )


def _shared(row: pd.Series) -> str:
    return f"{kappa_text(row)}, {share_text(row)} of Canny's"


def _line(rows: pd.DataFrame) -> str:
    return f"{rows['share_line'].iloc[0]:g} of the kappa of Canny's edges"


def _kappas(rows: pd.DataFrame, names: Sequence[str]) -> str:
    return "; ".join(f"{title(name)} {kappa_text(rows.loc[name])}" for name in names)
