"""The sanity checks of the scoreboard: which page answers each, and which answer is wanted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from saliency_sanity._errors import unknown
from saliency_sanity.book.chapters.measured import MOVES, RISE
from saliency_sanity.book.runs.cases import Case
from saliency_sanity.experiments.outcome import MOST
from saliency_sanity.probes.input_size import INPUT_WORDS, KEPT
from saliency_sanity.probes.units import MOVED, UNCHANGED
from saliency_sanity.verdict.obstacle import CANNOT_TELL
from saliency_sanity.verdict.wording import EDGE_WORDS, RANDOMIZATION_WORDS

UNIT_WORDS = {"below": "another map", "above": "the same map"}
# The lower half is as it was learned, so something of a map may stay for a good reason.
HALF_WORDS = {"below": "most is gone", "above": "most is left"}

# Which stage of a randomization is read: the last, where everything is random; the one that leaves
# the lower half as it was learned; of blocks randomized one at a time that which is noticed least.
LAST, HALFWAY, ONE_BLOCK = "last", "halfway", "one block"


COMPLEXITY_WORDS = {"below": "simpler", "above": "more complex"}
LABEL_WORDS = {"below": "another map", "above": "most is left"}
OBJECT_WORDS = {"below": "leaves its label's object", "above": "moves to its label's object"}
SIMILARITY = "ssim"  # of these, as their critic has it

# The question whose page alone has competitive twins of every base.
COMPETITION = "Competition"


@dataclass(frozen=True)
class Source:
    """Where readings are kept and shown: a table of one executed copy, and a place on its page.

    Attributes
    ----------
    notebook, case
        The notebook's name without its ending, and its case if it has some.
    anchor
        Identifier of the section that shows the readings; without a notebook one of the same page.
    table
        What the table's name says after that of the copy.
    """

    notebook: str
    case: str
    anchor: str
    table: str = "readings"

    @property
    def copy(self) -> str:
        """Name of the executed copy, without its ending."""
        return Case(self.notebook, self.case).copy

    @property
    def file(self) -> str:
        """Name of the table's file."""
        return f"{self.copy}-{self.table}.parquet"

    @property
    def link(self) -> str:
        """Address of the section, from another notebook's page."""
        return f"{self.copy}.html#{self.anchor}" if self.notebook else f"#{self.anchor}"

    def command(self, profile: str) -> str:
        """What to type to have the table made."""
        case = f"--case {self.case} " if self.case else ""
        return (
            f"python -m saliency_sanity run notebooks/{self.notebook}.ipynb {case}"
            f"--profile {profile}"
        )


@dataclass(frozen=True)
class Check:
    """A column of the scoreboard: one question put to every method on one network.

    Attributes
    ----------
    key
        Short name, unique.
    question
        What is asked; checks of one question stand beside each other.
    title
        What tells it from those: the network, or how maps are compared.
    source
        Where readings are.
    words
        What a kappa ``below`` and ``above`` the line is called.
    wanted
        Which of the two a map that sees the model gives; empty where neither speaks against it.
    metric
        The similarity that is read.
    stage
        Of readings with stages the one that counts: ``LAST``, ``HALFWAY`` or ``ONE_BLOCK``.
    line
        Kappa that parts below from above; None for the verdict as the page has it.
    kept
        Where running statistics of batch norms stay as they were learned, the address of what
        hangs on it; empty where there are none.
    asked
        Of whom the question is not asked, and why, as a sentence; empty where it is of all.
    network
        What pages call the network; empty where the title does.
    """

    key: str
    question: str
    title: str
    source: Source
    words: Mapping[str, str]
    wanted: str = "below"
    metric: str = "spearman_abs"
    stage: str = LAST
    line: float | None = None
    kept: str = ""
    asked: str = ""
    network: str = ""

    @property
    def subject(self) -> str:
        """What pages call the network that is asked about."""
        return self.network or self.title

    def standing(self, verdict: str) -> str:
        """``wanted``, ``unwanted``, ``neutral`` where neither is; without verdict ``open``.

        ``cannot`` where no verdict can be had.
        """
        if verdict == CANNOT_TELL:
            return "cannot"
        if verdict == "inconclusive":
            return "open"
        return ("wanted" if verdict == self.wanted else "unwanted") if self.wanted else "neutral"


_LITE = "EfficientNet-Lite0"
# Networks without batch norms.
_SMALL = {"cnn": "CNN", "mlp": "MLP", "vit": "ViT"}
# What networks are called, by the name they are loaded by.
NETWORKS = {"efficientnet_lite0": _LITE, "inception_v3": "Inception v3", **_SMALL}
_EDGES = Source("01_edge_detectors", "", "how-edge-like-is-each-method")


def _verdicts(notebook: str, case: str) -> Source:
    return Source(notebook, case, "verdicts")


def _kept(case: str) -> str:
    return Source("02_cascading_randomization", case, "what-hides-in-randomize").link


def _cascade(case: str, title: str, half: bool) -> Check:
    section = "how-similar-do-they-stay" if half else "verdicts"
    source = Source("02_cascading_randomization", case, section)
    check = Check(
        *(f"cascade_{case}", "Random weights", title, source, RANDOMIZATION_WORDS),
        kept="" if case in _SMALL else _kept(case),
    )
    if not half:
        return check
    return replace(
        check,
        key=f"upper_{case}",
        question="Upper half random",
        words=HALF_WORDS,
        stage=HALFWAY,
        line=MOST,
    )


def _bias(kind: str, case: str, title: str) -> Check:
    source = Source("05_input_bias", case, "which-methods-follow-the-input", kind)
    if kind == "likeness":
        return Check(f"input_{case}", "Follows input", title, source, INPUT_WORDS, metric=KEPT)
    return Check(
        *(f"units_{case}", "Other units", title, source, UNIT_WORDS),
        wanted="above",
        metric=MOVED,
        line=UNCHANGED,
        asked="Noise controls are drawn from the weights, and other units change the weights.",
    )


CHECKS = (
    *(
        Check(
            *(key, "Edge-like", title, _EDGES, EDGE_WORDS),
            wanted="",
            metric=metric,
            asked="Methods that explain every label are not asked: they take a thousand passes a "
            "photograph.",
            network=_LITE,
        )
        for key, title, metric in (
            ("edges", "by ranks", "spearman_abs"),
            ("outlines", "by outlines", "hog"),
        )
    ),
    *(
        _cascade(case, title, half)
        for half in (False, True)
        for case, title in {
            "imagenet": "Inception v3, ImageNet",
            "photographs": _LITE,
            "inception": "Inception v3",
            **_SMALL,
        }.items()
    ),
    Check(
        *("independent_cnn", "One block", "CNN"),
        _verdicts("02_cascading_randomization", "independent"),
        RANDOMIZATION_WORDS,
        stage=ONE_BLOCK,
    ),
    *(
        Check(
            *(f"labels_{case}", "Random labels", title),
            _verdicts("03_label_randomization", case),
            RANDOMIZATION_WORDS,
        )
        for case, title in _SMALL.items()
    ),
    *(
        Check(
            *(f"competition_{case}", COMPETITION, title),
            _verdicts("04_cgi_sanity", case),
            RANDOMIZATION_WORDS,
            kept=_kept(case) if case == "photographs" else "",
            asked="Only maps whose sum is about the logit compete, with their twins and controls "
            "beside them. With a thousand labels, no method competes that takes more than two "
            "passes a label.",
        )
        for case, title in ({"photographs": _LITE} | _SMALL).items()
    ),
    *(
        _bias(kind, case, title)
        for kind in ("likeness", "moved")
        for case, title in {"photographs": _LITE, "cnn": "CNN"}.items()
    ),
)

# What the critics of such checks ask instead, a scoreboard of its own.
CRITICS = (
    *(
        Check(
            *(f"complexity_{case}", "More complex", title),
            Source("10_mprt_revisited", case, "every-method-by-three-scores", "rises"),
            COMPLEXITY_WORDS,
            wanted="",
            metric=RISE,
            line=0.0,
        )
        for case, title in {"photographs": _LITE, "cnn": "CNN"}.items()
    ),
    *(
        Check(
            *(f"label_{case}", "Another label", title),
            Source("11_rank_one", case, "another-label", "either_sign"),
            LABEL_WORDS,
            metric=SIMILARITY,
            line=MOST,
            asked="Asked of methods that hand relevance down from layer to layer.",
        )
        for case, title in {"photographs": _LITE, "inception": "Inception v3"}.items()
    ),
    Check(
        *("adversarial_photographs", "Another class", _LITE),
        Source("12_image_recovery", "", "adversarial-pictures", "adversarial"),
        LABEL_WORDS,
        line=MOST,
        asked="Asked of controls and of the methods that the page on random networks is about.",
    ),
    Check(
        *("object_cnn", "Its label's object", "CNN"),
        Source("13_task_confounding", "cnn", "which-object-has-the-map", "moved"),
        OBJECT_WORDS,
        wanted="above",
        metric=MOVES,
        line=0.0,
    ),
)

_EXAMPLE = "has a worked example of a reader's own method"
# Copies whose results are in no column, with the reason.
NOT_SCORED = {
    "00_metrics": "compares similarities with each other, not methods with networks",
    "07_your_own_method-fails": _EXAMPLE,
    "07_your_own_method-passes": _EXAMPLE,
    **dict.fromkeys(
        ("08_every_method-board", "08_every_method-transformer"),
        "has a board of its own, with other libraries' methods",
    ),
    **dict.fromkeys(
        ("09_scales_and_noise-photographs", "09_scales_and_noise-cnn"),
        "asks what a ranking by random weights is worth, which has columns of its own",
    ),
    "11_rank_one-vgg": "has random weights only, so that there is no class to explain",
}

# What can be asked of any method and network as they are, and the section of the page that does.
_OWN = {
    "edges": "edges",
    "outlines": "edges",
    "cascade_photographs": "random-weights",
    "upper_photographs": "random-weights",
    "independent_cnn": "random-weights",
    "input_photographs": "the-input-and-its-units",
    "units_photographs": "the-input-and-its-units",
    "complexity_photographs": "what-the-critics-ask",
    "label_photographs": "what-the-critics-ask",
}


def own_checks(network: str, *, norms: bool, anchor: str = "") -> tuple[Check, ...]:
    """The checks of a reader's own method on one network, whose name heads their columns.

    Those of ``CHECKS`` and ``CRITICS`` that need no network trained for them, with a source on the
    same page. ``norms``: the network has batch norms. ``anchor`` is the one section that shows them
    all, where they have none each.
    """
    return tuple(
        replace(
            check,
            title=check.title if check.question == CHECKS[0].question else network,
            network=network,
            source=Source("", "", anchor or _OWN[check.key]),
            kept=_kept("photographs") if norms and _OWN[check.key] == "random-weights" else "",
        )
        for check in (*CHECKS, *CRITICS)
        if check.key in _OWN
    )


def checks_in(
    copies: Mapping[str, Case], profile: str = "", checks: Sequence[Check] = CHECKS
) -> tuple[Check, ...]:
    """The checks whose copies run in a profile; without one, those that run in every profile.

    ``copies`` as ``cases.all_copies`` gives them. Raises ValueError where there are none, and for a
    check whose copy is not among them.
    """
    if not copies:
        raise ValueError(
            "there are no notebooks here, so no results either; work in a checkout of the project"
        )
    for check in checks:
        if check.source.copy not in copies:
            raise ValueError(f"check {check.key!r}: {unknown('copy', check.source.copy, copies)}")
    return tuple(check for check in checks if copies[check.source.copy].runs_in(profile))
