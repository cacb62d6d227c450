"""Whether a method keeps what every method owes its caller, before anything long starts."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from saliency_sanity._attributes import same
from saliency_sanity._errors import NotApplicable
from saliency_sanity._plugins import raised, sentence
from saliency_sanity.attribution.base import Attribution, check, logits, select
from saliency_sanity.attribution.catalogue import is_control
from saliency_sanity.contract.clauses import (
    CHECKS,
    ELSEWHERE,
    ContractError,
    Report,
    Severity,
    Violation,
)
from saliency_sanity.contract.snapshot import Snapshot
from saliency_sanity.networks.forward import manner

_IMAGES = 3  # at most so many of the pictures are explained

# Relative distance of maps that differ by rounding alone: a hundred times what was ever seen, and
# a tenth of what another class changes in guided backpropagation. On a GPU a picture alone goes
# through other kernels than a batch does, with the ten bits of TF32.
_ROUNDING = 1e-3
_OTHER_KERNELS = 0.05

# What cannot be said after something else has failed.
_MAP = ("tensor", "shape", "dtype", "device", "graph", "finite", "constant")
_COMPARISONS = ("constant", "reproducible", "global", "batch", "target")


def check_method(
    name: str, method: Attribution, model: nn.Module, x: Tensor, target: Tensor
) -> Report:
    """Try ``method`` on up to three of the pictures and report what breaks the contract.

    ``x`` ``[N, C, H, W]`` with N at least 2, ``target`` ``[N]``. The method is called six times
    or so; whatever it does to model, pictures and random generators is undone, and an exception
    of its own becomes part of the report. A method of the catalogue that is a control is not
    asked to heed its target. Raises ValueError or TypeError for pictures, targets or a model that
    no method could explain.
    """
    check(model, x, target)
    if len(x) < 2:
        raise ValueError(f"{len(x)} picture given; the contract is checked on 2 or more")
    if model.training:
        raise ValueError(
            "the model is in training mode, where each call changes its batch norms; "
            "call model.eval() first"
        )
    with _generators(x):
        return _Trial(name, method, model, x[:_IMAGES].detach(), target[:_IMAGES]).report()


def require_method(
    name: str, method: Attribution, model: nn.Module, x: Tensor, target: Tensor
) -> Report:
    """As :func:`check_method`, but raises ContractError with all errors that it finds.

    Raises NotApplicable where it is the network that no such method can explain.
    """
    report = check_method(name, method, model, x, target)
    for violation in report:
        if violation.fix == ELSEWHERE:
            raise NotApplicable(f"method {name!r}: {violation.found} {ELSEWHERE}")
    if any(violation.severity == "error" for violation in report):
        raise ContractError(report)
    return report


class _Trial:
    """The calls of one method, and what they have shown."""

    def __init__(self, name: str, method: Attribution, model: nn.Module, x: Tensor, target: Tensor):
        self.name, self.method, self.model, self.x, self.target = name, method, model, x, target
        self.snapshot = Snapshot(model)
        self.own: dict[str, list[str]] = {}
        self.found: dict[str, Violation] = {}
        self.manner = manner(model, x)
        self.moved = False  # whether the last call moved a global random generator
        self.unchecked: set[str] = set()
        shape = list(x.shape)
        self.words = {
            "full": shape,
            "single": [shape[0], 1, *shape[2:]],
            "dtype": x.dtype,
            "device": x.device,
            "target": list(target.shape),
        }

    def report(self) -> Report:
        other = self.another_class()
        self.compare(self.first(), other)
        violations = [self.found[key] for key in CHECKS if key in self.found]
        unchecked = [key for key in CHECKS if key in self.unchecked - self.found.keys()]
        return Report(self.name, tuple(violations), tuple(unchecked))

    def another_class(self) -> Tensor | None:
        """The likeliest class that is not the one explained; None where there is but one."""
        found = logits(self.model, self.x)
        # What the network itself changes with every pass is no method's doing.
        self.own = self.snapshot.restore()
        select(found, self.target)
        own = torch.nn.functional.one_hot(self.target, found.shape[1]).bool()
        return found.masked_fill(own, -torch.inf).argmax(1) if found.shape[1] > 1 else None

    def note(self, key: str, found: str, severity: Severity | None = None) -> None:
        one = CHECKS[key]
        valid, fix = (text.format(**self.words) for text in (one.valid, one.fix))
        violation = Violation(key, one.title, found, valid, fix, severity or one.severity)
        self.found.setdefault(key, violation)

    def elsewhere(self, found: str) -> None:
        """Note that the network is one that the method cannot explain."""
        self.note("runs", found)
        self.found["runs"] = replace(self.found["runs"], fix=ELSEWHERE)

    def call(self, key: str, when: str, seed: int, rows: slice, target: Tensor) -> object:
        """What the method gives, ``None`` after an exception, which is noted as ``key``."""
        x, wanted = self.x[rows].clone(), target[rows].clone()
        _seed(seed, x)
        before = _drawn(x)
        try:
            given = self.method(self.model, x, wanted)
        except NotApplicable as error:
            self.elsewhere(f"It does not apply to this network: {sentence(error)}")
            given = None
        except (Exception, SystemExit) as error:
            said = f"{when} it raised {raised(error, __file__)}"
            if self.manner.cut and isinstance(error, RuntimeError):
                cut = f"No gradient reaches the pictures of this network: {self.manner.cut}."
                self.elsewhere(f"{cut} {said}")
            else:
                self.note(key, said)
            given = None
        finally:
            changes = self.snapshot.restore()
        for kind, found in changes.items():
            if names := [name for name in found if name not in self.own.get(kind, ())]:
                self.note(kind, f"It changed {_listed(names)}.")
        # A network that works in place on its input does so whatever calls it.
        kept = self.manner.writes or same(x, self.x[rows])
        if not kept or not same(wanted, target[rows]):
            self.note("input", "It changed values of x or target in place.")
        elif x.requires_grad or x.grad is not None:
            self.note("input", "It left x requiring a gradient, or with one.")
        self.moved = _drawn(x) != before
        return given

    def first(self) -> Tensor | None:
        """The map of all pictures, where it can be compared with others."""
        given = self.call("runs", "At the first call", 0, slice(None), self.target)
        if "runs" in self.found:
            self.unchecked |= {*_MAP, *_COMPARISONS}
            return None
        if not isinstance(given, Tensor):
            self.note("tensor", f"It returned {type(given).__name__}.")
            self.unchecked |= {*_MAP, *_COMPARISONS}
            return None
        if list(given.shape) not in (self.words["full"], self.words["single"]):
            self.note("shape", f"The map is {list(given.shape)}.")
        if given.dtype != self.x.dtype:
            self.note("dtype", f"The map is {given.dtype}.")
        if given.device != self.x.device:
            self.note("device", f"The map lies on {given.device}.")
        if given.requires_grad:
            self.note("graph", "The map requires a gradient, and keeps the whole pass in memory.")
        if {"shape", "device"} & self.found.keys():
            self.unchecked |= {"finite", *_COMPARISONS}
            return None
        given = given.detach().double()
        bad = ~given.isfinite().flatten(1).all(1)
        if bad.any():
            self.note("finite", f"NaN or infinite values in the map of {self.pictures(bad)}.")
            self.unchecked |= {*_COMPARISONS}
            return None
        spread = given.flatten(1).amax(1) - given.flatten(1).amin(1)
        flat = spread <= 1e-6 * given.flatten(1).abs().amax(1)
        if flat.any():
            severity = "error" if flat.all() else "warning"
            self.note("constant", f"One value fills the map of {self.pictures(flat)}.", severity)
        return given

    def pictures(self, chosen: Tensor) -> str:
        return f"{int(chosen.sum())} of {len(chosen)} pictures"

    def compare(self, first: Tensor | None, other: Tensor | None) -> None:
        """Hold the map against those of the same call, of each picture, and of another class."""
        if first is None:
            return
        again = self.call("reproducible", "At the second call", 1, slice(None), self.target)
        if _typical(_distances(first, again)) > _ROUNDING:
            self.note("reproducible", "The same call gave another map the second time.")
        if "reproducible" in self.found:
            # What follows would differ by chance, and drawing is what differs.
            self.unchecked |= {"global", "batch", "target"}
            return
        if self.moved:
            self.note("global", "It draws from a global random generator, or seeds it.")
        if self.manner.alone:
            # The network itself has other logits for a picture alone.
            self.unchecked |= {"batch"}
        else:
            self.compare_alone(first)
        self.compare_class(first, other)

    def compare_alone(self, first: Tensor) -> None:
        limit = _OTHER_KERNELS if self.x.is_cuda else _ROUNDING
        rows = [slice(i, i + 1) for i in range(len(self.x))]
        alone = [self.call("batch", "For one picture alone", 0, row, self.target) for row in rows]
        if "batch" in self.found:
            return
        apart = torch.stack(
            [_distances(first[row], one)[0] for row, one in zip(rows, alone, strict=True)]
        )
        if apart.isinf().any():
            shown = next(one for one, far in zip(alone, apart, strict=True) if far.isinf())
            what = list(shown.shape) if isinstance(shown, Tensor) else type(shown).__name__
            self.note("batch", f"For one picture alone it returned {what}.")
        elif _typical(apart) > limit:
            changed = self.pictures(apart > limit)
            self.note("batch", f"The map of {changed} was another one without the others.")

    def compare_class(self, first: Tensor, other: Tensor | None) -> None:
        flat = "constant" in self.found and self.found["constant"].severity == "error"
        if other is None or is_control(self.name) or flat:
            self.unchecked |= {"target"}
            return
        instead = self.call("runs", "For another class", 0, slice(None), other)
        if "runs" not in self.found and _distances(first, instead).amax() <= _ROUNDING:
            shown = f"class {int(self.target[0])} and for class {int(other[0])}"
            self.note("target", f"The first picture's map is the same for {shown}.")


def _distances(first: Tensor, other: object) -> Tensor:
    """The relative distance ``[N]`` of maps ``[N, C, H, W]``; infinite for what is no such map."""
    if not isinstance(other, Tensor) or other.shape != first.shape:
        return first.new_full((len(first),), torch.inf)
    first, other = first.flatten(1), other.detach().to(first).flatten(1)
    scale = torch.maximum(first.norm(dim=1), other.norm(dim=1))
    apart = (first - other).norm(dim=1) / torch.where(scale > 0, scale, 1)
    return apart.nan_to_num(nan=torch.inf)


def _typical(distances: Tensor) -> float:
    """The upper median: a unit within rounding of its kink may change a picture's map for good."""
    return distances.sort().values[len(distances) // 2].item()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


@contextmanager
def _generators(x: Tensor) -> Iterator[None]:
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
            yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002


def _seed(seed: int, x: Tensor) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    if x.is_cuda:
        torch.cuda.manual_seed(seed)


def _drawn(x: Tensor) -> tuple:
    _, keys, *rest = np.random.get_state()  # noqa: NPY002
    states = [torch.get_rng_state(), *([torch.cuda.get_rng_state(x.device)] if x.is_cuda else [])]
    return random.getstate(), keys.tobytes(), rest, [state.tolist() for state in states]
