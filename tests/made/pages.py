"""Pages made from the parameters that their notebooks declare, without a kernel."""

from pathlib import Path
from typing import Any, TypeVar

from made.places import ROOT
from saliency_sanity.book.chapters.page import Page
from saliency_sanity.book.runs.parameters import read_parameters
from saliency_sanity.book.runs.profiles import read_profile

STEPS = {"samples": 50, "steps": 50, "ig_samples": 25, "ig_steps": 50}
# A notebook's own values are of one of its cases; tests ask for all stages, pictures and shares of
# pixels, whichever case that is.
WHOLE = {
    "01_edge_detectors": STEPS,
    "02_cascading_randomization": STEPS
    | {"image_count": 0, "stage_limit": 0, "top": 10, "shown": 2},
    "03_label_randomization": STEPS | {"image_count": 100, "top": 10},
    "04_cgi_sanity": {"steps": 50, "image_count": 0, "stage_limit": 0, "top": 20, "shown": 2},
    "05_input_bias": STEPS | {"image_count": 0, "stage_limit": 0, "top": 20},
    "07_your_own_method": {"image_count": 0, "stage_limit": 0},
    "08_every_method": STEPS
    | {
        "ig_samples": 5,
        "ig_steps": 10,
        "masks": 2000,
        "top": 10,
        "image_counts": [20],
        "budgets": [60],
        "ceilings": [6],
        "seeds": 3,
    },
    "09_scales_and_noise": STEPS
    | {
        "image_count": 0,
        "methods": [],
        "seeds": 5,
        "stage_limit": 0,
        "scale_stages": 0,
        "shares": [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0],
        "ceiling": 10,
    },
    "10_mprt_revisited": STEPS
    | {
        "ig_samples": 50,
        "image_count": 0,
        "copies": 50,
        "smooth_count": 0,
        "smooth_seeds": 5,
        "top": 0,
        "ceiling": 6,
        "seeds": 10,
    },
    "11_rank_one": {
        "image_count": 0,
        "layer_limit": 0,
        "start_count": 5,
        "pairs": 200,
        "labels": 5,
    },
    "12_image_recovery": {"size": 96, "pooled": [16, 64, 256], "random_count": 0},
    "13_task_confounding": STEPS | {"image_count": 100},
}

Kind = TypeVar("Kind", bound=Page)


def parameters(notebook: str, **given: Any) -> dict[str, Any]:
    """What a notebook of the book sets, with some values given."""
    declared = read_parameters(ROOT / "notebooks" / f"{notebook}.ipynb")
    assert set(given) <= set(declared), "a notebook is given only parameters that it has"
    values = {name: parameter.default for name, parameter in declared.items()}
    return values | WHOLE.get(notebook, {}) | given


def page_of(kind: type[Kind], folder: Path, **given: Any) -> Kind:
    """A page with the defaults of its notebook but for what is given; results go to a folder."""
    place = {"results": str(folder / "results"), "device": "cpu"}
    return kind.of(parameters(kind.notebook, **place | given))


def small_page_of(kind: type[Kind], folder: Path, **given: Any) -> Kind:
    """A page at the scale of profile smoke, as a run of its notebook would make it."""
    scale = read_profile("smoke", ROOT / "config").notebooks[kind.notebook]
    return page_of(kind, folder, **scale | given)
