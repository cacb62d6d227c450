"""What readers of a figure are spared: small letters, texts that collide or are cut off."""

from collections.abc import Iterator
from itertools import combinations

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from saliency_sanity.plots.layout import SMALL


def assert_readable(figure: Figure) -> None:
    """No text is small, cut off or on another; legends cover neither panels nor labels."""
    figure.draw_without_rendering()
    whole = figure.get_tightbbox()
    assert whole.x0 >= -0.01
    assert whole.x1 <= figure.get_figwidth() + 0.01
    assert whole.y0 >= -0.01
    assert whole.y1 <= figure.get_figheight() + 0.01
    legends = [legend.get_window_extent() for legend in figure.legends]
    others = [axes.get_tightbbox() for axes in figure.axes if axes.get_visible()]
    others += [text.get_window_extent() for one in (figure, *figure.subfigs) for text in one.texts]
    assert not any(one.overlaps(other) for one in legends for other in others)
    texts = list(shown_texts(figure))
    assert len(texts) > 5
    assert min(text.get_fontsize() for text in texts) >= SMALL
    # The extent of an annotation holds its leader, that of its text does not.
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in texts]
    assert [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if _meet(one, other)] == []


def _meet(one: Bbox, other: Bbox) -> bool:
    shared = Bbox.intersection(one, other)
    # A line may reach a little into the next: what letters leave free above and below.
    free = 0.25 * min(one.height, other.height)
    return shared is not None and shared.width > 1 and shared.height > free


def shown_texts(figure: Figure) -> Iterator[Text]:
    """All texts that a reader sees."""
    labels, seen = set(), set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                labels |= {tick.label1, tick.label2}
                if axes.get_visible() and low <= tick.get_loc() <= high:
                    seen |= {tick.label1, tick.label2}
    hidden = {axes for axes in figure.axes if not axes.get_visible()}
    for text in figure.findobj(Text):
        if text in labels - seen or text.axes in hidden:
            continue
        if text.get_visible() and text.get_text().strip():
            yield text
