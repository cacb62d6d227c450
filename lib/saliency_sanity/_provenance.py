"""Where a number comes from: versions, commit, device, parameters, seeds, time."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "pandas",
    "scikit-image",
    "matplotlib",
    "papermill",
)


def provenance(
    *,
    parameters: Mapping[str, Any] | None = None,
    seeds: Iterable[int] = (),
    device: Any = None,
    started: datetime | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Say what made a result: one flat dictionary that JSON can hold.

    It names neither the host nor any folder of the machine.

    Parameters
    ----------
    parameters
        What the notebook was run with.
    seeds
        Every seed that was used.
    device
        A torch device or its name; None describes the processor.
    started
        When the work began, with its time zone; None where nobody knows, nor how long it took.
    extra
        Anything else worth keeping, by name.

    Raises
    ------
    ValueError
        ``started`` has no time zone.
    """
    if started is not None and started.tzinfo is None:
        raise ValueError("started: the time has no zone; use datetime.now(UTC)")
    return {
        "package": _version("saliency-sanity"),
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": _device_name(device),
        "cpus": cpu_count(),
        "threads": _threads(),
        "parameters": dict(parameters or {}),
        "seeds": [int(seed) for seed in seeds],
        "started": started and started.isoformat(timespec="seconds"),
        "seconds": started and round((datetime.now(UTC) - started).total_seconds(), 1),
        **extra,
    }


def commit() -> dict[str, Any] | None:
    """Return ``{"id": …, "dirty": …}`` of the library's checkout, or None outside of one."""
    return _commit_of(Path(__file__).resolve())


def cpu_count() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _commit_of(file: Path) -> dict[str, Any] | None:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(file.parent), *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()

    try:
        # An installed copy may lie inside somebody else's repository: only a tracked file counts.
        git("ls-files", "--error-unmatch", file.name)
        return {"id": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _device_name(device: Any) -> str:
    import torch

    kind = torch.device(device if device is not None else "cpu")
    if kind.type == "cuda":
        return torch.cuda.get_device_name(kind)
    return kind.type if kind.type != "cpu" else _processor()


@cache
def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return f"CPU, {line.split(':', 1)[1].strip()}"
    return f"CPU, {platform.processor() or platform.machine()}"
