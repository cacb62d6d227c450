#!/usr/bin/env bash
# matplotlib 3.11.2, layout="constrained": a figure's legend outside of its panels, and a label or a
# title that all panels share.
#
# One would guess: the layout makes room for both, as it does for each alone, so they stand one below
# the other.
# What happens: both are given room at the same edge from the edge on, and the legend is drawn on the
# label. Room is made for the higher of both only. At the left and right edges it is the same. In a
# subfigure of a figure the label keeps clear of the figure's legend: that is the way round it.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check matplotlib==3.11.2 numpy==2.4.6
"$place/env/bin/python" - <<'PYTHON'
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

EDGES = {
    "outside lower center": "supxlabel",
    "outside upper center": "suptitle",
    "outside center left": "supylabel",
}


def drawn(place, shared, within):
    """The overlap of legend and shared text in pixels, and where the panel begins and ends."""
    figure = plt.figure(figsize=(6, 4), layout="constrained")
    part = figure.subfigures() if within else figure
    axes = part.subplots()
    axes.plot([0, 1], label="a line")
    text = getattr(part, shared)("what all panels share") if shared else None
    legend = figure.legend(loc=place) if place else None
    figure.draw_without_rendering()
    panel = axes.get_window_extent()
    plt.close(figure)
    if text is None or legend is None:
        return None, panel
    common = matplotlib.transforms.Bbox.intersection(
        text.get_window_extent(), legend.get_window_extent()
    )
    return (common.width, common.height) if common else (0, 0), panel


print(f"matplotlib {matplotlib.__version__}, constrained layout")
for edge, shared in EDGES.items():
    (width, height), both = drawn(edge, shared, within=False)
    (apart, _), _ = drawn(edge, shared, within=True)
    alone = [drawn(*one, within=False)[1] for one in ((edge, None), (None, shared))]
    print(
        f"{edge} and {shared}: {width:.0f} x {height:.0f} px of one on the other, "
        f"{'none' if not apart else 'some'} in a subfigure"
    )
    assert min(width, height) > 5
    assert apart == 0
    smallest = min(alone, key=lambda box: box.width * box.height)
    assert abs(both.width - smallest.width) < 1 and abs(both.height - smallest.height) < 1
PYTHON
