"""How sides are compared: taking turns in one run, in one precision, on one clock."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from saliency_sanity._arithmetic import arithmetic
from tqdm import tqdm

DEVICES = ("cpu", "cuda")
PRECISION = {
    "cpu": "float32",
    "cuda": "float32, TF32 off and cuDNN deterministic on both sides",
}

# glibc keeps freed blocks below a threshold that grows as they are freed: the resident size would
# count its fragments, up to 15 % more after some chunks. Held fixed, freed memory goes back.
_RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def exact(device: str) -> AbstractContextManager[None]:
    """The precision of both sides, see ``PRECISION``; the caller's comes back."""
    return arithmetic("exact", torch.device(device))


def clock_name(device: str) -> str:
    """On a CPU of one thread its own time, which other work on the machine hardly changes."""
    return "CPU time" if device == "cpu" and torch.get_num_threads() == 1 else "wall time"


def clock(device: str) -> Callable[[], float]:
    """Seconds, once all that was begun on the device is done."""
    if device == "cpu":
        return time.process_time if clock_name(device) == "CPU time" else time.perf_counter

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now


def timed(
    sides: dict[str, Callable[[], object]],
    repeats: int,
    device: str,
    what: str,
    warm_up: Callable[[], object] | None = None,
) -> dict[str, list[float]]:
    """Seconds of every round, the sides taking turns.

    A first round warms up and is dropped; or ``warm_up`` does, where rounds take long.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    now, dropped = clock(device), 0 if warm_up else 1
    if warm_up:
        warm_up()
    with tqdm(total=(repeats + dropped) * len(sides), desc=what) as bar:
        for _ in range(repeats + dropped):
            for name, side in sides.items():
                start = now()
                side()
                times[name].append(now() - start)
                bar.update()
    return {name: seconds[dropped:] for name, seconds in times.items()}


def row(
    what: str, ours: list[float], theirs: list[float], aim: float | None = None, unit: str = "s"
) -> dict[str, object]:
    """Medians of both sides and of their ratio; an ``aim`` is the largest ratio that meets it."""
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return {
        "what": what,
        "ours": statistics.median(ours),
        "theirs": statistics.median(theirs),
        "unit": unit,
        "ratio": ratio,
        "aim": aim,
        "met": None if aim is None else ratio <= aim,
    }


def peak_memory(device: str) -> float:
    """The most memory that this process had in use so far, in MiB: on a GPU, that of tensors."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage, whose peak starts with that of the process this one was started from.
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def rise(run: Callable[[], object], device: str) -> float:
    """By how much a run raises the peak of memory, in MiB; in a process of its own."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = peak_memory(device)
    with exact(device):
        run()
    return peak_memory(device) - before


def elsewhere(function: Callable[..., object], *arguments: object) -> object:
    """What a benchmark's function gives in a process of its own, where freed memory goes back.

    So a peak of memory is that of the function and nobody else's.
    """
    home, name = function.__module__, function.__name__
    script = f"import json, sys\nfrom {home} import {name}\n"
    script += f"print(json.dumps({name}(*json.loads(sys.argv[1]))))"
    process = subprocess.run(
        [sys.executable, "-c", script, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env=os.environ | _RETURNED,
    )
    return json.loads(process.stdout)
