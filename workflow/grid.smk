# The cells of a grid, one job each, after its shards if the grid has some:
#   saliency-sanity grid grids/example.yaml --cores 2
# This file sees only files and commands, so that the jobs may run anywhere. `saliency-sanity grid`
# checks the grid, asks what is to be done, starts this, lists what failed, and joins the tables.
import sys

from saliency_sanity.book.grid.spec import read_grid
from saliency_sanity._errors import InputError
from saliency_sanity.experiments.shard import Shard

include: "library.smk"

try:
    GRID = read_grid(config["grid"])
except InputError as error:
    sys.exit(f"error: {error}")

RUN = COMMAND + " grid {GRID.file:q} --cell {wildcards.cell} --threads {threads}"
CELLS = {cell.name: cell for cell in GRID.cells}
PLACES = list(CELLS)
SHARDS = {shard.stem: shard for shard in Shard.all(GRID.shards)}


def place(kind):
    return str(GRID.path(kind, "{cell}"))


def shard_place(kind):
    return str(GRID.shard_path(kind, "{cell}", "{shard}"))


# What cells and shards depend on. The parameters are all that makes a change of the grid, of its
# profile or of a case a reason to run again.
FILES = {
    "source": str(GRID.source),
    "networks": lambda wildcards: CELLS[wildcards.cell].networks,
    "own": lambda wildcards: own_files(CELLS[wildcards.cell].values.values()),
    "library": notebook_files(GRID.source),
    "versions": "requirements.lock",
}
VALUES = {"values": lambda wildcards: CELLS[wildcards.cell].signature, "profile": GRID.profile}


wildcard_constraints:
    cell="[^/]+",
    shard="[^/]+",


rule all:
    input:
        expand(place("record"), cell=CELLS),


rule shard:
    input:
        **FILES,
    output:
        record=shard_place("record"),
    log:
        text=shard_place("log"),
        partial=shard_place("partial"),
    params:
        **VALUES,
        shard=lambda wildcards: str(SHARDS[wildcards.shard]),
    message:
        "{wildcards.cell}, shard {params.shard}"
    # One cell after the other: maps of shards take room until their cell is done.
    priority: lambda wildcards: -PLACES.index(wildcards.cell)
    threads: GRID.threads
    resources:
        mem_mb=4096,
    shell:
        RUN + " --shard {params.shard} 2>&1 | tee {log.text}"


rule cell:
    input:
        **FILES,
        shards=expand(shard_place("record"), shard=SHARDS, allow_missing=True),
    # No `update`: what is there is of these parameters, or it is not there.
    output:
        executed=place("notebook"),
        record=place("record"),
        results=directory(place("results")),
    log:
        text=place("log"),
        partial=place("partial"),
    params:
        **VALUES,
    message:
        "{wildcards.cell}"
    priority: 1
    threads: GRID.threads
    resources:
        mem_mb=4096,
    shell:
        RUN + " 2>&1 | tee {log.text}"
