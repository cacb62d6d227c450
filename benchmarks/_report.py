"""``RESULTS.md``: the tables of the last run on each device, with what they were measured on."""

import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from saliency_sanity._files import replacing

from benchmarks._timing import DEVICES, PRECISION, clock_name

RESULTS = Path(__file__).with_name("RESULTS.md")

_PREFACE = """# Benchmarks

Written by `python -m benchmarks --device DEVICE --write`, never by hand. Both sides of a ratio were
measured in one run and in one precision, taking turns; times, and their ratio, are medians over the
rounds. An aim is the largest ratio that meets it.
"""
_NAMES = {"cpu": "CPU", "cuda": "CUDA"}
_PEERS = ("captum", "quantus", "scikit-image", "scipy", "numpy")
_HEADING = re.compile(r"^(#{2,3}) (.+)$", re.MULTILINE)


def measured_on(device: str, short: bool, origin: Mapping[str, Any]) -> str:
    """What a table was measured on: date, commit, device, versions, precision and clock."""
    commit = origin["commit"]
    made = "no commit" if commit is None else f"commit {commit['id'][:12]}"
    made += " with changes" if commit and commit["dirty"] else ""
    versions = [f"Python {origin['python']}", f"torch {torch.__version__}"]
    if device == "cuda":
        versions.append(f"cuDNN {torch.backends.cudnn.version()}")
    versions += [f"{name} {version}" for name in _PEERS if (version := _version(name))]
    return "; ".join(
        [
            origin["started"][:10],
            f"{made}{', --short' if short else ''}",
            f"{origin['device']}, {origin['threads']} CPU thread(s), {origin['platform']}",
            ", ".join(versions),
            PRECISION[device],
            clock_name(device),
        ]
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def block(found: pd.DataFrame | str, where: str) -> str:
    """A benchmark's part of the file: its table, or why there is none."""
    body = f"Failed: {found}" if isinstance(found, str) else shown(found)
    return f"{where}.\n\n{body}\n"


def shown(table: pd.DataFrame) -> str:
    """A table of ``_timing.row`` in Markdown."""
    lines = [
        "| what | ours | theirs | ratio | aim | met |",
        "| --- | --: | --: | --: | --: | --- |",
    ]
    for row in table.to_dict("records"):
        sides = [f"{row[side]:.4g} {row['unit']}" for side in ("ours", "theirs")]
        aimed = not pd.isna(row["aim"])
        met = ("yes" if row["met"] else "no") if aimed else ""
        aim = f"{row['aim']:.3g}" if aimed else ""
        cells = [row["what"], *sides, f"{row['ratio']:.3g}", aim, met]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def blocks_in(text: str) -> dict[str, dict[str, str]]:
    """The parts of a file that is there: by device, then by benchmark."""
    found: dict[str, dict[str, str]] = {device: {} for device in DEVICES}
    titles = {title: device for device, title in _NAMES.items()}
    device, (_, *parts) = None, _HEADING.split(text)
    for level, title, content in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if level == "##":
            device = titles.get(title)
        elif device:
            found[device][title] = content.strip() + "\n"
    return found


def write(new: Mapping[str, str], device: str, valid: Sequence[str], path: Path = RESULTS) -> Path:
    """Put new parts of one device into the file, which is replaced whole or not at all.

    Other benchmarks' parts and the other device's stay; those of benchmarks that are gone do not.
    """
    known = blocks_in(path.read_text(encoding="utf-8")) if path.exists() else blocks_in("")
    known[device] |= new
    text = [_PREFACE]
    for each, blocks in known.items():
        kept = {name: blocks[name] for name in sorted(blocks) if name in valid}
        text += [f"## {_NAMES[each]}\n"] if kept else []
        text += [f"### {name}\n\n{content}" for name, content in kept.items()]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(text), encoding="utf-8")
    return path
