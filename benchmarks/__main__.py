"""``python -m benchmarks [NAME …]``: run every benchmark, or those named, and print their tables.

A benchmark is a module of this package with a function ``run(device, short)`` that returns a
DataFrame of ``_timing.row``.
"""

import argparse
import importlib
import pkgutil
import sys
import time
import traceback
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pandas as pd
from saliency_sanity._errors import InputError, unknown
from saliency_sanity._files import results_folder, write_json
from saliency_sanity._provenance import provenance
from saliency_sanity.book.cli import FAILED, exit_status
from saliency_sanity.subjects.models import choose_device

import benchmarks
from benchmarks import _report
from benchmarks._timing import DEVICES, exact


def benchmark_names(folder: Path) -> list[str]:
    """Names of the modules in the package that are benchmarks."""
    names = (module.name for module in pkgutil.iter_modules([str(folder)]))
    return sorted(name for name in names if not name.startswith("_"))


def measure(name: str, device: str, short: bool) -> pd.DataFrame:
    """Run one benchmark and return its table."""
    with exact(device):
        table = importlib.import_module(f"benchmarks.{name}").run(device, short)
    if not isinstance(table, pd.DataFrame) or table.empty:
        raise TypeError(f"run() must return a DataFrame with rows, not {type(table).__name__}")
    return table


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks; a failing one is named and the others still run.

    Returns 0 when all ran, 1 when one failed, 2 for an unknown name, a device that is not there or
    an unusable folder, 130 when interrupted.
    """
    there = benchmark_names(Path(benchmarks.__path__[0]))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"which ones (default: all of {', '.join(there)})")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="default: cpu")
    parser.add_argument("--short", action="store_true", help="all rows from fewer rounds")
    parser.add_argument(
        "--write", action="store_true", help="put the tables into benchmarks/RESULTS.md"
    )
    parser.add_argument("--results", default="results", help="folder for benchmarks.json")
    options = parser.parse_args(arguments)
    return exit_status(partial(_run, options, there), "nothing is written")


def _run(options: argparse.Namespace, there: list[str]) -> int:
    names, device = options.name or there, options.device
    for name in names:
        if name not in there:
            raise InputError(unknown("benchmark", name, there))
    try:
        choose_device(device)
    except ValueError as error:
        raise InputError(str(error)) from error
    target = results_folder(options.results) / "benchmarks.json"
    began, tables, failed = datetime.now(UTC), {}, {}
    for name in names:
        print(f"{name}: running …", file=sys.stderr, flush=True)
        started = time.perf_counter()
        try:
            table = measure(name, device, options.short)
        except Exception as error:  # one broken benchmark must not hide the others' tables
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        tables[name] = table
        seconds = time.perf_counter() - started
        print(f"\n{name} ({seconds:.0f} s)\n\n{_report.shown(table)}\n", flush=True)
    origin = provenance(started=began, device=device, short=options.short)
    where = _report.measured_on(device, options.short, origin)
    print(f"measured on: {where}")
    content = {name: table.to_dict("records") for name, table in tables.items()}
    content = {"benchmarks": content, "failed": failed, "provenance": origin}
    print(f"written: {write_json(content, target)}")
    if options.write:
        blocks = {name: _report.block(found, where) for name, found in (tables | failed).items()}
        print(f"written: {_report.write(blocks, device, there)}")
    for name, reason in failed.items():
        print(f"error: benchmark {name} failed: {reason}", file=sys.stderr)
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
