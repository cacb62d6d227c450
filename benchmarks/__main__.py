"""``python -m benchmarks [NAME …]``: run every benchmark, or those named, and print their tables.

A benchmark is a module of this package with a function ``run()`` that returns a DataFrame.
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

import benchmarks


def benchmark_names(folder: Path) -> list[str]:
    """Names of the modules in the package that are benchmarks."""
    names = (module.name for module in pkgutil.iter_modules([str(folder)]))
    return sorted(name for name in names if not name.startswith("_"))


def measure(name: str) -> pd.DataFrame:
    """Run one benchmark and return its table."""
    table = importlib.import_module(f"benchmarks.{name}").run()
    if not isinstance(table, pd.DataFrame) or table.empty:
        raise TypeError(f"run() must return a DataFrame with rows, not {type(table).__name__}")
    return table


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks; a failing one is named and the others still run.

    Returns 0 when all ran, 1 when one failed, 2 for an unknown name or an unusable folder, 130 when
    interrupted.
    """
    there = benchmark_names(Path(benchmarks.__path__[0]))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"which ones (default: all of {', '.join(there)})")
    parser.add_argument("--results", default="results", help="folder for benchmarks.json")
    options = parser.parse_args(arguments)
    command = partial(_run, options.name or there, there, Path(options.results))
    return exit_status(command, "nothing is written")


def _run(names: list[str], there: list[str], results: Path) -> int:
    for name in names:
        if name not in there:
            raise InputError(unknown("benchmark", name, there))
    target = results_folder(results) / "benchmarks.json"
    began, tables, failed = datetime.now(UTC), {}, {}
    for name in names:
        print(f"{name}: running …", file=sys.stderr, flush=True)
        started = time.perf_counter()
        try:
            table = measure(name)
        except Exception as error:  # one broken benchmark must not hide the others' tables
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        tables[name] = table.to_dict("records")
        seconds = time.perf_counter() - started
        print(f"\n{name} ({seconds:.0f} s)\n{table.to_string(index=False)}\n", flush=True)
    origin = provenance(started=began)
    content = {"benchmarks": tables, "failed": failed, "provenance": origin}
    print(f"written: {write_json(content, target)}")
    for name, reason in failed.items():
        print(f"error: benchmark {name} failed: {reason}", file=sys.stderr)
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
