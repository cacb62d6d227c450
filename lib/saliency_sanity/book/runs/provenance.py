"""Provenance as a page shows it, and numbers that a page keeps for others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saliency_sanity._markup import render
from saliency_sanity._provenance import provenance

_GLUE_PREFIX = "application/papermill.record/"


def record(key: str, value: float | int | str) -> None:
    """Keep a value in the notebook under a name, for ``{glue:text}`` on any page of the book.

    Nothing is shown where it is called. Outside IPython it does nothing.

    Parameters
    ----------
    key
        Name of the value; unique in the notebook.
    value
        A number (NumPy and one-element tensors too) or a text.

    Raises
    ------
    TypeError
        The value is neither number nor text.
    """
    plain = value.item() if hasattr(value, "item") else value
    if not isinstance(plain, float | int | str):
        raise TypeError(f"record {key!r}: {type(value).__name__} is neither a number nor a text")
    from IPython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        return
    # What myst_nb.glue(..., display=False) emits, without needing myst_nb to run a notebook.
    display(
        {f"{_GLUE_PREFIX}text/plain": repr(plain)},
        metadata={"scrapbook": {"name": key, "mime_prefix": _GLUE_PREFIX}},
        raw=True,
    )


class ProvenanceBox:
    """The last cell of a page: provenance as a small table.

    Attributes
    ----------
    content
        What :func:`~saliency_sanity._provenance.provenance` returned.
    """

    def __init__(self, content: Mapping[str, Any]):
        self.content = dict(content)

    def rows(self) -> list[tuple[str, str]]:
        """Return the lines of the table: a heading and a text each."""
        content = dict(self.content)
        versions = content.pop("versions", {})
        lines = [
            ("saliency-sanity", content.pop("package", None)),
            ("Commit", _commit_text(content.pop("commit", None))),
            ("Versions", _pairs({"Python": content.pop("python", None), **versions}, " ")),
            ("Machine", _machine_text(content)),
            ("Parameters", _pairs(content.pop("parameters", {}), " = ")),
            ("Seeds", ", ".join(str(seed) for seed in content.pop("seeds", []))),
            ("Started", content.pop("started", None)),
            ("Duration", _duration_text(content.pop("seconds", None))),
        ]
        lines += [
            (key.replace("_", " ").capitalize(), _pairs(value, " "))
            if isinstance(value, Mapping)
            else (key.replace("_", " ").capitalize(), str(value))
            for key, value in content.items()
        ]
        return [(head, str(text)) for head, text in lines if text not in (None, "")]

    def _repr_html_(self) -> str:
        return render("book/runs/provenance.html.j2", rows=self.rows())

    def _repr_markdown_(self) -> str:
        rows = (f"| {head} | {text} |".replace("\n", " ") for head, text in self.rows())
        return "\n".join(["| | |", "| --- | --- |", *rows])

    def __repr__(self) -> str:
        return "\n".join(f"{head}: {text}" for head, text in self.rows())


def provenance_box(content: Mapping[str, Any] | None = None, **parts: Any) -> ProvenanceBox:
    """Return the box for a page's end.

    Parameters
    ----------
    content
        What :func:`~saliency_sanity._provenance.provenance` returned; None calls it with ``parts``.
    parts
        Arguments of :func:`~saliency_sanity._provenance.provenance`.

    Raises
    ------
    TypeError
        Both were given.
    """
    if content is not None and parts:
        raise TypeError("provenance_box: give the finished content or its parts, not both")
    return ProvenanceBox(provenance(**parts) if content is None else content)


def _commit_text(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "not in a checkout"
    return str(value["id"]) + (", with changes not committed" if value["dirty"] else "")


def _machine_text(content: dict[str, Any]) -> str:
    parts = [content.pop("platform", None), content.pop("device", None)]
    cpus, threads = content.pop("cpus", None), content.pop("threads", None)
    parts += [f"{cpus} processors" if cpus else None, f"{threads} threads" if threads else None]
    return "; ".join(str(part) for part in parts if part)


def _duration_text(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _pairs(values: Mapping[str, Any], between: str) -> str:
    return ", ".join(f"{key}{between}{value}" for key, value in values.items() if value is not None)
