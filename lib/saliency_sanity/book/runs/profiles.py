"""Profiles: at which scale the notebooks run and the networks are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import Field

from saliency_sanity._errors import InputError, unknown
from saliency_sanity._schema import Strict, Values, checked
from saliency_sanity.book.runs.cases import (
    PARAMETER,
    PROFILE,
    Case,
    all_copies,
    no_cases,
)
from saliency_sanity.book.runs.parameters import Parameter, check_parameters, read_parameters
from saliency_sanity.book.runs.yaml_file import read_yaml

if TYPE_CHECKING:
    from saliency_sanity.subjects.training.recipe import Recipe

# What of a recipe belongs elsewhere, and where.
_NOT_HERE = {
    "seed": "a case's 'replicates' says how many networks there are, with seeds 0, 1, …",
    "labels": "name the entry NETWORK-permuted for permuted labels",
    "negatives": "name the entry NETWORK-negatives for one that learns negatives, too",
}


class _File(Strict):
    """A profile as its file has it."""

    notebooks: dict[Any, Values] = Field(
        description="map each of the notebooks to its values (name: value)"
    )
    networks: dict[Any, Values] = Field(
        {}, description="map each of the networks to its values (name: value)"
    )


@dataclass(frozen=True)
class Profile:
    """What a file of ``config/`` says.

    Attributes
    ----------
    notebooks
        Values by parameter, for each notebook (all its cases) and for single copies,
        ``NOTEBOOK-CASE``, which win.
    networks
        Values of the training recipe, for each network: ``NETWORK``, ``NETWORK-permuted`` for
        those that learn permuted labels, ``NETWORK-negatives`` for those that learn negatives,
        too, ``NETWORK-TASK`` for those that learn a task made here, such as ``cnn-pairs_shape``.
    """

    notebooks: Mapping[str, Mapping[str, Any]]
    networks: Mapping[str, Mapping[str, Any]]


def profile_names(folder: str | Path) -> list[str]:
    """Return the names of the profiles in a config folder, sorted."""
    return sorted(path.stem for path in Path(folder).glob("*.yaml"))


def read_profile(name: str, folder: str | Path) -> Profile:
    """Return a profile as its file has it; values are not checked.

    Parameters
    ----------
    name
        The file's name without ``.yaml``.
    folder
        Where the profiles are.

    Raises
    ------
    InputError
        There is no such profile, or its file holds something else.
    """
    names = profile_names(folder)
    if name not in names:
        raise InputError(unknown("profile", name, names))
    path = Path(folder) / f"{name}.yaml"
    where = f"profile {name!r} ({path.name})"
    return Profile(**dict(checked(_File, read_yaml(path, where), where)))


def profile_parameters(
    name: str, folder: str | Path, source: str | Path, case: Case | None = None
) -> dict[str, Any]:
    """Return what a profile says about one notebook, checked against that notebook.

    Parameters
    ----------
    name, folder
        As :func:`read_profile`.
    source
        The notebook.
    case
        One of its cases; the profile's entry for it wins over that for the notebook. What the
        case itself sets is not in the result.

    Raises
    ------
    InputError
        As :func:`read_profile`; also when the profile names a notebook or case that does not
        exist beside this one, leaves this one out, or gives a wrong name or type.
    """
    source = Path(source)
    entries = read_profile(name, folder).notebooks
    copies = all_copies(source.parent)
    there = sorted({case.notebook for case in copies.values()} | set(copies))
    for entry in entries:
        if entry not in there:
            missing = no_cases(source.parent)
            raise InputError(f"profile {name!r}: {unknown('notebook', entry, there)}{missing}")
    wanted = dict.fromkeys([source.stem, case.copy if case else source.stem])
    if not any(entry in entries for entry in wanted):
        raise InputError(
            f"profile {name!r} says nothing of notebook {source.stem!r}; add it to "
            f"{name}.yaml (it may be empty), or run without a profile"
        )
    declared, values = read_parameters(source), {}
    for entry in wanted:
        where = f"profile {name!r}, {entry}"
        for told in (PARAMETER, PROFILE):
            if told in entries.get(entry, {}):
                raise InputError(f"{where}: {told!r} is set by the runner; take it out")
        values |= check_parameters(declared, entries.get(entry, {}), where)
    return values


def profile_copies(name: str, folder: str | Path, notebooks: str | Path) -> dict[str, Case]:
    """Return what the workflow executes in a profile, by the name of the copy.

    Everything that the profile and the cases say of the notebooks is checked on the way.

    Parameters
    ----------
    name, folder
        As :func:`read_profile`.
    notebooks
        The folder of the notebooks and their cases.

    Raises
    ------
    InputError
        As :func:`profile_parameters` and :meth:`saliency_sanity.book.runs.cases.Case.count` for
        any of them; also when a case names a profile or a network that does not exist.
    """
    profiles, networks = profile_names(folder), read_profile(name, folder).networks
    copies = {}
    for copy, case in all_copies(notebooks).items():
        where = f"case {case.name!r} of {case.notebook}"
        for named in case.profiles:
            if named not in profiles:
                raise InputError(f"{where}: {unknown('profile', named, profiles)}")
        source = Path(notebooks) / f"{case.notebook}.ipynb"
        case.values(source)
        case.count(source, profile_parameters(name, folder, source, case))
        if case.runs_in(name):
            copies[copy] = case
            for network in case.needs:
                if network not in networks:
                    raise InputError(
                        f"{where} needs a network that profile {name!r} does not train: "
                        f"{unknown('network', network, networks)}"
                    )
    return copies


def profile_networks(
    name: str, folder: str | Path, notebooks: str | Path, copies: Mapping[str, Case]
) -> dict[str, Recipe]:
    """Return the networks that copies need in a profile: recipes, by the stem of the file.

    Those that take longest to train come first.

    Parameters
    ----------
    name, folder, notebooks
        As :func:`profile_copies`.
    copies
        All that it returned, or some of them.

    Raises
    ------
    InputError
        As :func:`profile_copies`, for these copies, and as :func:`profile_recipe`, for every
        network of the profile.
    """
    # Imported late: they bring in torch, which most commands start without.
    from saliency_sanity.subjects.small_networks import TRAINABLE
    from saliency_sanity.subjects.training.checkpoints import trained_path

    trained = read_profile(name, folder).networks
    recipes = {key: profile_recipe(name, folder, key) for key in trained}
    found = set()
    for case in copies.values():
        source = Path(notebooks) / f"{case.notebook}.ipynb"
        count = case.count(source, profile_parameters(name, folder, source, case))
        found |= {replace(recipes[key], seed=seed) for key in case.needs for seed in range(count)}
    large = list(TRAINABLE)
    found = sorted(
        found, key=lambda one: (large.index(one.network), -one.epochs, one.key, one.seed)
    )
    return {trained_path(one.network, one.weights).stem: one for one in found}


def profile_recipe(name: str, folder: str | Path, network: str) -> Recipe:
    """Return how a profile trains a network, which has seed 0.

    Raises
    ------
    InputError
        As :func:`read_profile`; also when the profile does not train the network, gives a wrong
        name or type, or sets the seed or the labels.
    """
    networks = read_profile(name, folder).networks
    if network not in networks:
        raise InputError(f"profile {name!r}: {unknown('network', network, networks)}")
    where = f"profile {name!r}, {network}"
    for key, instead in _NOT_HERE.items():
        if key in networks[network]:
            raise InputError(f"{where}: {key!r} is not the profile's to say; {instead}")
    recipe = check_recipe(network, networks[network], where)
    if recipe.key != network:
        raise InputError(
            f"{where}: dataset {recipe.dataset!r} is a task of its own; name the entry "
            f"{recipe.key}, which needs no dataset"
        )
    return recipe


def check_recipe(
    network: str, given: Mapping[str, Any], where: str, base: Recipe | None = None
) -> Recipe:
    """Return the training recipe of a network with values in their declared types.

    Parameters
    ----------
    network
        A network that can be trained, ``NETWORK[-TASK][-permuted|-negatives]``.
    given
        Values by name; texts are converted.
    where
        Whose values they are, for the message.
    base
        What the recipe is where nothing is given; by default the network's own.

    Raises
    ------
    InputError
        The network or a name is unknown, or a value has another type or makes no sense.
    """
    # Imported late: it brings in torch, which most commands start without.
    from saliency_sanity.subjects.training.recipe import Recipe, split_key

    types = get_type_hints(Recipe)
    try:
        named = split_key(network)
        recipe = Recipe(**named) if base is None else base
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    declared = {
        field.name: Parameter(
            field.name, types[field.name].__name__, getattr(recipe, field.name), ""
        )
        for field in fields(recipe)
        if field.name != "network"
    }
    values = check_parameters(declared, given, where)
    try:
        recipe = replace(recipe, **values)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    if recipe.dataset != named.get("dataset", recipe.dataset):
        raise InputError(
            f"{where}: dataset {recipe.dataset!r}: this one learns {named['dataset']}; train "
            f"{named['network']} for another"
        )
    if named["labels"] != "true" and recipe.labels != named["labels"]:
        raise InputError(
            f"{where}: labels {recipe.labels!r}: this one learns {named['labels']} labels; train "
            f"{named['network']} for true ones"
        )
    if named["negatives"] and not recipe.negatives:
        raise InputError(
            f"{where}: negatives false: this one learns them; train {named['network']} without"
        )
    return recipe
