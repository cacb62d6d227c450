"""The scoreboard: every method's verdict in every check, read from the results of all pages."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from saliency_sanity._errors import unknown
from saliency_sanity._files import read_table
from saliency_sanity.attribution.catalogue import CATALOGUE, is_control, title
from saliency_sanity.book.scoreboard.columns import (
    CHECKS,
    COMPETITION,
    HALFWAY,
    LAST,
    Check,
    Source,
)
from saliency_sanity.experiments.outcome import halfway
from saliency_sanity.randomization.blocks import WHOLE
from saliency_sanity.verdict.obstacle import CANNOT_TELL, Obstacle
from saliency_sanity.verdict.reading import side
from saliency_sanity.verdict.robustness import MARGINS, at_margin
from saliency_sanity.verdict.wording import settled, share_text, why

# What needs a class token is asked where there is one.
_NO_TOKENS = "Needs a class token that attends to patches, which this network lacks."

# The page on competition names a competitive twin by its base; the catalogue has these.
TWIN = "competitive_"
TWINS = {
    f"{TWIN}gradient_x_input": "cgi",
    f"{TWIN}integrated_gradients": "competitive_ig",
    f"{TWIN}lrp_epsilon": "competitive_lrp",
}

_TWIN_ALONE = "Only the page on competition has it."

COLUMNS = (
    *("method", "check", "kappa", "low", "high", "verdict", "standing", "words"),
    *("obstacle", "margin", "held", "missing", "stage", "page", "link"),
)
# Of several blocks that one counts which is noticed least.
_SEVERITY = {"below": 0, "inconclusive": 1, "cannot tell": 2, "above": 3}


class MissingTablesError(FileNotFoundError):
    """Tables that the scoreboard reads are not there; the message says what makes them."""


def read_scoreboard(
    results: str | Path, checks: Sequence[Check] = CHECKS, profile: str = "quick"
) -> pd.DataFrame:
    """Read each method's verdict in each check, a row a pair that was measured.

    Parameters
    ----------
    results
        The folder whose ``tables`` the notebooks have written.
    checks
        The columns of the scoreboard.
    profile
        The profile that commands in an error message name.

    Returns
    -------
    Columns ``COLUMNS``: ``method`` is a name of the catalogue where it has the method; ``verdict``
    is below, above, inconclusive or "cannot tell", ``obstacle`` why it is open, ``words`` what that
    means, ``margin`` what the interval is held against, ``held`` the same in words where it is not
    the margin, ``missing`` how many maps have no similarity and so no kappa, ``standing`` as
    ``Check.standing`` says; ``page`` and ``link`` lead to what shows why. What was not measured has
    no row.

    Raises
    ------
    MissingTablesError
        Tables are missing: all of them, the notebooks that make them, and the commands.
    ValueError
        A table lacks the check's metric, or has two readings of one method.
    """
    return _board(checks, _tables(results, checks, profile))


def at_margins(
    results: str | Path,
    checks: Sequence[Check] = CHECKS,
    profile: str = "quick",
    margins: Sequence[float] = MARGINS,
) -> dict[float, pd.DataFrame]:
    """The verdicts that other margins would have given, by margin, each as ``read_scoreboard``.

    What another reason keeps open stays open, and a check with a line of its own as it is. Of
    single blocks another one may be noticed least.
    """
    tables = _tables(results, checks, profile)
    return {margin: _board(checks, tables, margin) for margin in margins}


def _tables(
    results: str | Path, checks: Sequence[Check], profile: str
) -> dict[Source, pd.DataFrame]:
    folder = Path(results) / "tables"
    sources = dict.fromkeys(check.source for check in checks)
    missing = [source for source in sources if not (folder / source.file).is_file()]
    if missing:
        raise MissingTablesError(_missing(missing, folder, profile))
    return {source: read_table(folder / source.file) for source in sources}


def _board(
    checks: Sequence[Check], tables: Mapping[Source, pd.DataFrame], margin: float | None = None
) -> pd.DataFrame:
    found = [score(check, tables[check.source], check.source, margin) for check in checks]
    none = pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(found, ignore_index=True) if found else none


def reasons(
    table: pd.DataFrame, results: str | Path, checks: Sequence[Check] = CHECKS
) -> dict[tuple[str, str], str]:
    """Why there is no verdict, by method and check, for each pair that has no row in ``table``.

    ``table`` as ``read_scoreboard`` gives it for these ``results`` and ``checks``.
    """
    measured = set(zip(table["method"], table["check"], strict=True))
    needing = {key for key, card in CATALOGUE.items() if "attention" in card.needs}
    found = {}
    for check in checks:
        tokens = check.source.case == "vit"
        refused = _refused(Path(results) / "tables" / replace(check.source, table="refused").file)
        for method in dict.fromkeys(table["method"]):
            if (method, check.key) in measured:
                continue
            absent = "" if tokens or method not in needing else _NO_TOKENS
            why = refused.get(method) or absent or check.asked or "Not measured."
            alone = _base(method) != method and check.question != COMPETITION
            found[method, check.key] = _TWIN_ALONE if alone else why
    return found


def _refused(file: Path) -> dict[str, str]:
    """Why methods do not apply to the network of a page, by name."""
    if not file.is_file():
        return {}
    rows = read_table(file)
    return dict(zip(rows["method"].replace(TWINS), rows["reason"], strict=True))


def method_title(name: str) -> str:
    """What pages call a method of the scoreboard."""
    base = _base(name)
    return title(base) + " (competitive)" * (base != name)


def in_order(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Methods and controls, each in the order of the catalogue, what it does not have last."""
    places = list(CATALOGUE)
    names = sorted(
        dict.fromkeys(names),
        key=lambda name: places.index(name) if name in places else len(places),
    )
    controls = [name for name in names if is_control(_base(name))]
    return [name for name in names if name not in controls], controls


def tally(table: pd.DataFrame, checks: Sequence[Check] = CHECKS) -> dict[str, int]:
    """Count methods, controls apart: all, ``wanted`` throughout, ``unwanted`` once, or ``open``.

    Only checks count in which one answer is wanted, and methods that are in one of them. Throughout
    is wherever it was measured; ``open`` is what is in neither of the other two.
    """
    asked = table[table["check"].isin([check.key for check in checks if check.wanted])]
    methods, _ = in_order(asked["method"])
    standings = [set(asked.loc[asked["method"] == method, "standing"]) for method in methods]
    counts = {
        "wanted": standings.count({"wanted"}),
        "unwanted": sum("unwanted" in found for found in standings),
    }
    return {"methods": len(methods), "open": len(methods) - sum(counts.values())} | counts


def _base(name: str) -> str:
    """What competes in a twin that the catalogue does not have; else the method itself."""
    return name if name in CATALOGUE else name.removeprefix(TWIN)


def _missing(missing: Sequence[Source], folder: Path, profile: str) -> str:
    files = "\n".join(f"  {source.file}, of notebook {source.notebook}" for source in missing)
    commands = dict.fromkeys(source.command(profile) for source in missing)
    listed = "\n".join(f"  {command}" for command in commands)
    return (
        f"{len(missing)} of the tables that the scoreboard reads are not in {str(folder)!r}:\n"
        f"{files}\nThese make them, or all at once 'make book PROFILE={profile}':\n{listed}"
    )


def score(
    check: Check, readings: pd.DataFrame, source: Source, margin: float | None = None
) -> pd.DataFrame:
    """Give each method's verdict in one check, as rows of the scoreboard.

    Parameters
    ----------
    check
        Which metric and stage count, and what verdicts are called.
    readings
        A row for each method, metric and, where there are some, stage, with the fields of
        ``verdict.Reading``.
    source
        Where they come from; ``page`` and ``link`` lead there, and errors name it.
    margin
        Another margin than that of the readings; a check with a line of its own asks for none.

    Raises
    ------
    ValueError
        The table lacks the check's metric or its stage, or has two readings of one method.
    """
    own = readings[readings["metric"] == check.metric]
    if own.empty:
        raise ValueError(
            f"{source.file}: {unknown('metric', check.metric, readings['metric'].unique())}"
        )
    if "sure_low" not in own:
        raise ValueError(
            f"{source.file} lacks column 'sure_low', so an earlier version wrote it; run its "
            "notebook again"
        )
    if margin is not None and check.line is None:
        own = at_margin(own, margin)
    judged = [_judged(row, check) for row in own.to_dict("records")]
    verdicts, obstacles = zip(*judged, strict=True)
    methods = own["method"].replace(TWINS)
    own = own.assign(method=methods, verdict=verdicts, obstacle=obstacles, line=check.line)
    own = _chosen(own, check, source)
    twice = own.loc[own["method"].duplicated(), "method"].tolist()
    if twice:
        raise ValueError(f"{source.file}: {twice[0]!r} has several readings of {check.metric}")
    rows = [_row(row, check, source) for row in own.to_dict("records")]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _judged(row: Mapping, check: Check) -> tuple[str, str]:
    """The verdict and why it is open."""
    if check.line is None or not settled(row):
        return row["verdict"], row["obstacle"]
    ends, inside = (row["low"], row["high"]), Obstacle.LINE_INSIDE
    verdict, obstacle = side(ends, row["sure_low"], check.line, inside)
    # Of a map that is no more alike when nothing changed, the line cannot be asked.
    if verdict != "above" and row.get("ceiling", math.nan) < check.line:
        return CANNOT_TELL, Obstacle.LOW_CEILING.value
    return verdict, obstacle.value if obstacle else ""


def _chosen(readings: pd.DataFrame, check: Check, source: Source) -> pd.DataFrame:
    if "stage" not in readings:
        return readings
    if check.stage == LAST:
        return readings[readings["position"] == readings["position"].max()]
    if check.stage == HALFWAY:
        stage = halfway(readings) if "random" in readings else None
        if stage is None:
            raise ValueError(
                f"{source.file} has no stage with the upper half of the network random; run its "
                "notebook again, with stage_limit 0 or at least 3"
            )
        return readings[readings["stage"] == stage]
    blocks = readings[readings["stage"] != WHOLE]
    worst = blocks.assign(severity=blocks["verdict"].map(_SEVERITY)).sort_values(
        ["severity", "kappa"], ascending=False, na_position="last"
    )
    return worst.drop_duplicates("method").sort_index()


def _row(row: Mapping, check: Check, source: Source) -> dict:
    verdict = row["verdict"]
    return {
        **{key: row[key] for key in ("method", "kappa", "low", "high", "verdict", "obstacle")},
        "margin": row["margin"] if check.line is None else check.line,
        "held": _held(row, check),
        "missing": int(row.get("undefined_diagonal", 0)),
        "check": check.key,
        "standing": check.standing(verdict),
        "words": check.words.get(verdict) or f"{verdict}: {why(row)}",
        "stage": "" if check.stage == LAST else row.get("stage", ""),
        "page": source.copy,
        "link": source.link,
    }


def _held(row: Mapping, check: Check) -> str:
    """What is held against what, where that is not the interval against the margin."""
    if check.line is not None:
        return f"compared with a line of its own, {check.line:g}, whatever the margin"
    if "share" in row:
        return (
            f"its share of the kappa of Canny's edges, {share_text(row)}, compared with "
            f"{row['share_line']:g}"
        )
    return ""
