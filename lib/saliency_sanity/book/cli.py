"""The command line: train a network, run notebooks, build the book, say what there is."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from saliency_sanity._errors import InputError, unknown
from saliency_sanity._files import ResultsError, checkout
from saliency_sanity.book.runs.cases import find_case, read_cases
from saliency_sanity.book.runs.parameters import SHARD, read_parameters
from saliency_sanity.book.runs.profiles import check_recipe, profile_recipe
from saliency_sanity.book.runs.runner import NotebookFailedError, config_folder, run_notebook
from saliency_sanity.experiments.shard import Shard

if TYPE_CHECKING:
    from saliency_sanity.book.grid.cell import Cell

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    arguments
        Words after the program's name; by default those it was called with.

    Returns
    -------
    0 when it worked, 1 when a notebook or the book failed, 2 for bad input, 130 when interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # What follows -- is for Snakemake; argparse would mix it up with what is before.
    mine = words.index("--") if words[:1] == ["grid"] and "--" in words else len(words)
    for before, word in pairwise(words[:mine]):
        name, equals, value = word.partition("=")
        if before in ("-p", "--parameter") and equals:
            wrong = f"parameter {word!r}: a name and its value are two words"
            return _said(f"{wrong}: {before} {name} {value}", BAD_INPUT)
    options = _parser().parse_args(words[:mine])
    options.more = words[mine + 1 :]
    left = "finished results are kept, and the same command goes on from there"
    return exit_status(lambda: options.command(options), left)


def exit_status(command: Callable[[], int | None], left: str = "finished results are kept") -> int:
    """Run a command and return its exit status, as for :func:`main`; errors become one line.

    ``left`` is what an interruption leaves behind, in words.
    """
    try:
        return command() or 0
    except (InputError, ResultsError) as error:
        return _said(error, BAD_INPUT)
    except NotebookFailedError as error:
        return _said(error, FAILED)
    except KeyboardInterrupt:
        return _said(f"interrupted; {left}", INTERRUPTED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="saliency-sanity",
        description="Do saliency maps see the model, or only the picture?",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="run a notebook with checked parameters")
    run.add_argument("notebook", type=Path, help="the notebook; it stays as it is")
    run.add_argument("--case", help="one of its cases by name (command parameters lists them)")
    _add_scale(run, "set a parameter; may be repeated; wins over profile and case")
    run.add_argument(
        "--output",
        type=Path,
        help="where the executed copy goes (default: build/stage/notebooks/NAME.ipynb or "
        "NAME-CASE.ipynb, where the book takes it from; of a shard in build/shards)",
    )
    run.add_argument("--log", type=Path, help="where the copy grows while it runs; kept")
    run.add_argument("--record", type=Path, help="write what made the copy here, as JSON")
    _add_threads(run, "processor threads (default: all)")
    run.set_defaults(command=_run)

    grid = commands.add_parser(
        "grid",
        help="run a notebook with many sets of parameters",
        epilog="Words after -- are given to Snakemake: saliency-sanity grid FILE -- --forceall",
    )
    grid.add_argument("file", type=Path, help="the grid, as in grids/example.yaml")
    grid.add_argument("-n", "--dry-run", action="store_true", help="say what would run, how long")
    grid.add_argument("--cores", type=_positive, help="processors to use (default: all)")
    grid.add_argument("--snakemake-profile", type=Path, help="where and how jobs run: a folder")
    grid.add_argument("--cell", help="run this one only, here, without Snakemake")
    grid.add_argument("--shard", help="of --cell make some maps only: 2/8, one of eight such jobs")
    _add_threads(grid, "of --cell (default: the grid's)")
    grid.set_defaults(command=_grid)

    train = commands.add_parser("train", help="train a network on small pictures")
    train.add_argument(
        "network",
        metavar="NETWORK[-TASK][-permuted|-negatives]",
        help="inception_v3, vit, cnn or mlp; with -pairs_garment, -pairs_shape or -halves on a "
        "task made of garments, with -permuted on labels permuted among the pictures, with "
        "-negatives on the pictures' negatives, too",
    )
    _add_scale(train, "set a value of the recipe; may be repeated; wins over the profile")
    train.add_argument(
        "--output",
        type=Path,
        help="where the trained network goes (default, where the notebooks take it from: "
        "results/models/NETWORK-DATASET[-permuted|-negatives][-SEED].safetensors)",
    )
    train.add_argument("--again", action="store_true", help="train although it is there already")
    train.set_defaults(command=_train)

    parameters = commands.add_parser("parameters", help="list a notebook's parameters and cases")
    parameters.add_argument("notebook", type=Path)
    parameters.set_defaults(command=_parameters)

    book = commands.add_parser("book", help="build the site from the executed notebooks")
    book.add_argument("--profile", default="quick", help="profile that the notebooks ran in")
    book.set_defaults(command=_book)

    launch = commands.add_parser(
        "launch", help="write the notebooks that a page's buttons open, one a case"
    )
    launch.set_defaults(command=_launch)

    own = commands.add_parser("new-method", help="write a file for a method of your own")
    own.add_argument("name", help="of the method, and of the file: my_map gives my_map.py")
    own.set_defaults(command=_new_method)

    methods = commands.add_parser("methods", help="list the attribution methods and controls")
    methods.add_argument("name", nargs="?", help="show this one's card")
    methods.set_defaults(command=_methods)
    return parser


def _add_scale(command: argparse.ArgumentParser, text: str) -> None:
    """What a run and a training have in common: a profile, and values that win over it."""
    command.add_argument("--profile", help="a file of config/ by name: smoke, quick, paper, …")
    command.add_argument("--config", type=Path, help="folder of the profiles")
    command.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help=text,
    )
    command.add_argument("--quiet", action="store_true", help="show no progress")


def _add_threads(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--threads", type=_positive, help=text)


def _values(options: argparse.Namespace) -> dict[str, str]:
    given = {}
    for name, value in options.parameter:
        if name in given:
            raise InputError(f"parameter {name!r} is given twice: {given[name]!r} and {value!r}")
        given[name] = value
    return given


def _run(options: argparse.Namespace) -> None:
    given, source = _values(options), options.notebook
    folder = source.resolve().parent
    # Somebody's notebook that lies anywhere writes nothing above the folder where they work.
    root = folder.parent if folder.name == "notebooks" else checkout()
    staged = root / "build/stage" / folder.name
    name = source.name
    if options.case is not None:
        name = f"{find_case(source, options.case).copy}.ipynb"
    if given.get(SHARD):
        # Its maps are for the run that follows, and its copy is no page.
        name = f"{Path(name).stem}-{Shard.read(given[SHARD]).stem}.ipynb"
        output = options.output or staged.parent.parent / "shards" / name
    else:
        output = options.output or staged / name
        _keep_apart(source, output, staged / name, given)
    run = run_notebook(
        source,
        output,
        given,
        options.profile,
        case=options.case,
        log=options.log,
        record=options.record,
        config=options.config,
        threads=options.threads,
        progress=not options.quiet,
        check=_page_check(source) if given else None,
    )
    print(f"{name}: done in {run.seconds:.0f} s, executed copy in {run.output}")
    if "results" in given:
        place = checkout() / given["results"]
        kinds = [kind for kind in ("tables", "claims", "figures") if _files_in(place / kind)]
        print(f"{', '.join(kinds) or 'results'} in {os.path.relpath(place)}")


def _files_in(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def _page_check(source: Path) -> Callable[[Mapping[str, object]], None] | None:
    """What finds faults in the parameters of a reader's own method; None for other pages."""
    if source.stem != "07_your_own_method":
        return None
    # Imported late: it brings in torch and the networks.
    from saliency_sanity.book.scoreboard.own_method import OwnMethod

    return OwnMethod.check


def _keep_apart(source: Path, output: Path, books: Path, given: dict[str, str]) -> None:
    """Give a copy that is not the book's a results folder of its own, beside it."""
    if output.resolve() == books.resolve() or "results" in given:
        return
    if "results" in read_parameters(source):
        given["results"] = os.path.relpath(output.resolve().with_suffix(""), checkout())


def _grid(options: argparse.Namespace) -> int:
    # Imported late: it brings in Snakemake's side of things, which the other commands do not need.
    from saliency_sanity.book.grid.run import run_cell, run_grid
    from saliency_sanity.book.grid.spec import read_grid

    words = list(options.more)
    if options.snakemake_profile is not None:
        place = options.snakemake_profile
        words += ["--profile", str(place.resolve() if place.exists() else place)]
    root = checkout()
    file = os.path.relpath(options.file, root)
    with chdir(root):
        grid = read_grid(file)
        if options.cell is not None:
            shard = None if options.shard is None else Shard.read(options.shard)
            run = run_cell(grid, grid.cell(options.cell), options.threads or grid.threads, shard)
            which = f", shard {shard}" if shard else ""
            print(f"{options.cell}{which}: done in {run.seconds:.0f} s")
            return 0
        if options.shard is not None:
            raise InputError("--shard is of one cell; name it with --cell")
        if grid.shards > 1:
            _say_plan(grid.source.stem, grid.cells[0])
        return FAILED if run_grid(grid, options.cores, words, options.dry_run) else 0


def _say_plan(notebook: str, cell: Cell) -> None:
    """Say what a cell that is divided takes, since so much is not started by mistake."""
    from saliency_sanity.book.chapters.cascade.page import Cascade

    if notebook != Cascade.notebook:
        return
    try:
        plan = Cascade.of({**cell.values, "results": "results", SHARD: ""}).plan()
    except Exception as error:  # it fails in the cell as well, which says so
        print(f"{cell.name}: what it takes cannot be told: {error}", flush=True)
    else:
        print(f"{cell.name}: {plan}", flush=True)


def _parameters(options: argparse.Namespace) -> None:
    parameters = read_parameters(options.notebook)
    rows = [(item.name, item.type, repr(item.default)) for item in parameters.values()]
    widths = [max(map(len, column), default=0) for column in zip(*rows, strict=True)]
    for row, item in zip(rows, parameters.values(), strict=True):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"{cells}  {item.comment}".rstrip())
    cases = read_cases(options.notebook.parent).get(options.notebook.stem, {})
    width = max(map(len, cases), default=0)
    for case in cases.values():
        values = ", ".join(f"{name} = {value}" for name, value in case.parameters.items())
        print(f"--case {case.name.ljust(width)}  {case.title}" + (f": {values}" if values else ""))


def _train(options: argparse.Namespace) -> None:
    # Imported late: it brings in torch and the networks.
    from saliency_sanity.subjects.datasets import DatasetUnavailable
    from saliency_sanity.subjects.training.checkpoints import is_trained, trained_path
    from saliency_sanity.subjects.training.loop import train

    recipe = None
    if options.profile is not None:
        config = options.config or config_folder(checkout() / "notebooks")
        recipe = profile_recipe(options.profile, config, options.network)
    recipe = check_recipe(options.network, _values(options), f"train {options.network}", recipe)
    output = options.output or trained_path(recipe.network, recipe.weights)
    try:
        if not options.again and is_trained(recipe, output):
            print(
                f"{recipe.key}: trained already, by this recipe, in {os.path.relpath(output)}; "
                "--again trains it anew"
            )
            return
        record = train(recipe, output, progress=not options.quiet)
    except (ValueError, DatasetUnavailable) as error:
        raise InputError(str(error)) from error
    print(f"{recipe.key}: trained, in {os.path.relpath(output)}")
    print(
        f"right: {record['test_accuracy']:.2%} of {record['test_count']} test pictures, "
        f"{record['train_accuracy']:.2%} of {record['train_count']} training pictures "
        f"({recipe.labels} labels)"
    )
    if record["target_reached"] is not None:
        target = f"{record['target_accuracy']:.2%} of the training pictures"
        if record["target_reached"]:
            print(f"target of {target} reached after {record['epochs']:.0f} epochs")
        else:
            print(
                f"target of {target} NOT reached in {record['epochs']:.1f} epochs; more "
                "epochs, fewer images, a larger learning_rate or no weight_decay may help"
            )


def _book(options: argparse.Namespace) -> int:
    # Imported late: it brings in the whole library, which the other commands start without.
    from saliency_sanity.book.site.build import BookError, build

    try:
        build(profile=options.profile)
    except BookError as error:
        return _said(error, FAILED)
    return 0


def _launch(_options: argparse.Namespace) -> None:
    from saliency_sanity.book.runs.launch import write_launchable

    written = write_launchable(checkout())
    print(f"{len(written)} notebooks are in {os.path.relpath(written[0].parent)}")


def _new_method(options: argparse.Namespace) -> None:
    from saliency_sanity.book.new_method import command, write_method

    path = write_method(options.name, Path.cwd())
    print(f"{path.name}: a method that runs as it is; put yours in its place. Then test it:")
    print(f"\n{command(options.name, sys.argv[0])}")


def _methods(options: argparse.Namespace) -> None:
    from saliency_sanity.attribution.catalogue import CATALOGUE

    if options.name is None:
        width = max(map(len, CATALOGUE))
        for card in CATALOGUE.values():
            print(f"{card.name.ljust(width)}  {card.kind.ljust(7)}  {card.title}")
        return
    if options.name not in CATALOGUE:
        raise InputError(unknown("method", options.name, CATALOGUE))
    card = CATALOGUE[options.name]
    print(f"{card.name} ({card.kind}): {card.title}\n{card.summary}\n\n  {card.formula}\n")
    for name, value in card.defaults.items():
        print(f"  {name}: {value}")
    print(f"  needs: {', '.join(card.needs) or 'nothing'}")
    print(f"  sources: {', '.join(card.sources) or 'none'}")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _said(error: Exception | str, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status
