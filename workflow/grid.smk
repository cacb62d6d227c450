# The cells of a grid, one job each:
#   saliency-sanity grid grids/example.yaml --cores 2
# This file sees only files and commands, so that the jobs may run anywhere. `saliency-sanity grid`
# checks the grid, asks what is to be done, starts this, lists what failed, and joins the tables.
import sys

from saliency_sanity.grid import read_grid
from saliency_sanity.parameters import InputError

include: "library.smk"

try:
    GRID = read_grid(config["grid"])
except InputError as error:
    sys.exit(f"error: {error}")

CELLS = {cell.name: cell for cell in GRID.cells}


def place(kind):
    return str(GRID.path(kind, "{cell}"))


rule all:
    input:
        expand(place("record"), cell=CELLS),


rule cell:
    input:
        source=str(GRID.source),
        networks=lambda wildcards: CELLS[wildcards.cell].networks,
        library=NUMBERS,
        versions="requirements.lock",
    # No `update`: what is there is of these parameters, or it is not there.
    output:
        executed=place("notebook"),
        record=place("record"),
        results=directory(place("results")),
    log:
        text=place("log"),
        partial=place("partial"),
    params:
        # All that makes a change of the grid, of its profile or of a case a reason to run again.
        values=lambda wildcards: CELLS[wildcards.cell].signature,
        profile=GRID.profile,
    wildcard_constraints:
        cell="[^/]+",
    threads: GRID.threads
    resources:
        mem_mb=4096,
    shell:
        COMMAND + " grid {GRID.file:q} --cell {wildcards.cell} --threads {threads}"
        " 2>&1 | tee {log.text}"
