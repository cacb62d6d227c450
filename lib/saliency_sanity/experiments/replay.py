"""A forward pass that starts at the first random block instead of at the input.

What lies below that block is as it was trained, so for the same images it gives the same
activations and the same graph for the backward pass. Both are kept for one batch, once for each
backward rule, and every later pass over that batch starts from them.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from saliency_sanity._errors import NotApplicable
from saliency_sanity.attribution.base import leaf_of, out_of_memory, shortened
from saliency_sanity.attribution.rectifiers import interception
from saliency_sanity.experiments.tracing import (
    Following,
    StrayedError,
    Trace,
    blank,
    hooked,
    mapped,
)
from saliency_sanity.networks.classifier import network_of
from saliency_sanity.networks.folding import UnfoldedError, folding
from saliency_sanity.networks.forward import logits_of
from saliency_sanity.randomization.blocks import Block

T = TypeVar("T")

# Activations kept at most. What does not fit is computed anew each time.
_CPU_BYTES, _GPU_BYTES = 2 * 2**30, 8 * 2**30


@contextmanager
def replaying(model: nn.Module, blocks: Sequence[Block], x: Tensor) -> Iterator["Replay"]:
    """Keep what the trained part of ``model`` gives for the images ``x``, within the block."""
    token = shortened.set(Replay(model, tuple(blocks), x))
    try:
        yield shortened.get()
    finally:
        shortened.reset(token)


@dataclass
class _Tape:
    leaf: Tensor
    trace: Trace
    starts: set[int]  # units behind which a pass may start
    hits: int  # rectifiers met, for whoever intercepts them
    bytes: int = 0  # of the part that is kept
    whole: int = 0  # of the whole pass


@dataclass
class Replay:
    """Graphs kept for slices of the images ``x``; see ``replaying``.

    ``random(names)`` says which blocks are random from now on; all others must be as they were
    trained until it is called again. Every pass that starts in the middle is held to the calls
    that the whole one made there; where it strays, or the network hides something from its graph,
    passes are whole from then on, and ``reason`` says why. ``shortened`` and ``whole`` count.
    """

    model: nn.Module
    blocks: tuple[Block, ...]
    x: Tensor
    shortened: int = 0
    whole: int = 0
    reason: str = ""
    _tapes: dict[tuple, _Tape] = field(default_factory=dict)
    # Leaf and logits of passes since blocks last changed.
    _made: dict[tuple, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _hollow: bool = True  # tensors without memory may stand where nothing is used
    _proved: bool = False  # a pass of which parts are kept gives what another one does
    _ends: tuple[int, ...] = ()  # units that end a block which is trained, as all before it are

    def __post_init__(self):
        self._network = network_of(self.model)
        self._units = [path for block in self.blocks for path in block.modules]
        self._homes = {
            inner: path
            for path in sorted(self._units, key=len)  # those inside of others come later
            for inner in self._network.get_submodule(path).modules()
        }
        if path := hooked(self._network):
            self.reason = f"there are hooks on {path}"
        if any(isinstance(module, torch.jit.ScriptModule) for module in self._network.modules()):
            self.reason = "a part of it is scripted"
        self.random(())

    def random(self, names: Collection[str]) -> None:
        """Start passes behind a block before the first of the named ones."""
        self._made.clear()
        ends, last = [], -1
        # Nothing is gained behind the last block, which gives the logits.
        for block in self.blocks[:-1]:
            if block.name in names:
                break
            last += len(block.modules)
            ends.append(last)
        self._ends = tuple(ends)
        for tape in self._tapes.values():
            # Random from here on; dropping the outputs frees their graph.
            for unit in tape.starts - set(ends):
                tape.starts.discard(unit)
                tape.trace.forget(unit)

    def forget(self) -> None:
        """Let go of what is kept: other pictures follow."""
        self._tapes.clear()
        self._made.clear()

    def covers(self, model: nn.Module, part: Tensor) -> bool:
        """Whether ``part`` is a slice of the images, and there is a block to start behind."""
        return (
            model is self.model
            and part.dtype == self.x.dtype
            and part.untyped_storage().data_ptr() == self.x.untyped_storage().data_ptr()
        )

    def forward(self, part: Tensor) -> tuple[Tensor, Tensor, bool]:
        """Leaf, logits, and whether the graph must be retained, for a slice of the images."""
        leaf = leaf_of(self.model, part)
        if self.reason or not leaf.requires_grad:
            return self._plain(leaf)
        current = interception()
        key = (current and repr(current.rule), part.storage_offset(), part.shape, part.stride())
        if key in self._made:
            return *self._made[key], True
        tape = self._tapes.get(key)
        if not self._ends:
            leaf, logits, _ = self._plain(leaf)
            return leaf, logits, tape is not None and self._keeps(key, leaf, logits)
        start = max(tape.starts & set(self._ends), default=None) if tape is not None else None
        if start is not None:
            logits = self._folding(leaf, lambda: self._again(tape, start))
            if logits is None:
                return self._plain(leaf)
            if current is not None:
                current.hits += tape.hits
            self._keeps(key, tape.leaf, logits)
            return tape.leaf, logits, True
        self._tapes.pop(key, None)
        return self._folding(leaf, lambda: self._recorded(key, leaf))

    def _keeps(self, key: tuple, leaf: Tensor, logits: Tensor) -> bool:
        """Let who asks for the same pass next have it, if there is room for all of it."""
        room = sum(kept.whole for kept in self._tapes.values()) <= self._budget
        if room and interception() is None:
            self._made[key] = leaf, logits
        return key in self._made

    def _folding(self, leaf: Tensor, run: Callable[[], T]) -> T:
        """Run a pass with batch norms folded, but those in another unit than what they follow."""
        return folding(self.model, leaf, run, self._homes)

    def _plain(self, leaf: Tensor) -> tuple[Tensor, Tensor, bool]:
        self.whole += 1
        return leaf, self._folding(leaf, lambda: logits_of(self.model, leaf)), False

    def _recorded(self, key: tuple, leaf: Tensor) -> tuple[Tensor, Tensor, bool]:
        """A whole pass, of which is kept what others may start from."""
        current = interception()
        before = current.hits if current is not None else 0
        trace = Trace(self._network, self._units, self._ends)
        tape = _Tape(leaf, trace, set(), 0)
        try:
            with self._weighing(tape), trace:
                logits = logits_of(self.model, trace.starting(leaf))
            if not self._proved:
                self._proved = self._agrees(logits, leaf)
        except Exception as error:
            # Where folding strays, the pass is run again as it is written.
            if isinstance(error, NotApplicable | UnfoldedError) or out_of_memory(error):
                raise
            self._proved = False
        if not self._proved:
            if current is not None:
                current.hits = before
            self._stray("it tells copies of what its blocks give from the originals")
            return self._plain(leaf_of(self.model, leaf))
        self.whole += 1
        if trace.reason:
            self._stray(trace.reason)
            return leaf, logits, False
        tape.starts = trace.starts(logits) & set(self._ends)
        if not tape.starts and len(self._ends) == len(self.blocks) - 1:
            self.reason = "no block passes on all that leads to the logits"
        for unit in set(self._ends) - tape.starts:
            trace.forget(unit)
        tape.hits = (current.hits if current is not None else 0) - before
        room = self._budget - sum(kept.bytes for kept in self._tapes.values())
        kept = bool(tape.starts) and tape.bytes <= room
        if kept:
            self._tapes[key] = tape
        return leaf, logits, kept

    def _agrees(self, logits: Tensor, leaf: Tensor) -> bool:
        """Whether a pass of which nothing is kept gives these logits, up to rounding."""
        with torch.no_grad():
            plain = logits_of(self.model, leaf.detach())
        near = 1e-3 * float(plain.nan_to_num(0, 0, 0).abs().max())
        return torch.allclose(logits.detach(), plain, rtol=0, atol=near, equal_nan=True)

    @property
    def _budget(self) -> int:
        return _GPU_BYTES if self.x.is_cuda else _CPU_BYTES

    def _again(self, tape: _Tape, start: int) -> Tensor | None:
        """Logits of a pass that starts behind a unit; None where it strays from the whole one."""
        for hollow in (True, False) if self._hollow else (False,):
            current = interception()
            before = current.hits if current is not None else 0
            try:
                following = Following(tape.trace.expected(start))
                with self._skipping(tape, start, following, hollow), following:
                    logits = logits_of(self.model, tape.leaf)
                following.finish()
            except StrayedError:
                self._stray("it makes other calls when it starts in the middle")
            except Exception as error:
                if isinstance(error, UnfoldedError) or out_of_memory(error):
                    raise
                if not hollow:
                    self._stray(f"it cannot start in the middle: {type(error).__name__}")
            else:
                # What joins skipped tensors with others needs ones with memory.
                self._hollow = hollow
                self.shortened += 1
                return logits
            if current is not None:
                current.hits = before
            if self.reason:
                break
        return None

    def _stray(self, reason: str) -> None:
        self.reason = reason
        self.forget()

    @contextmanager
    def _weighing(self, tape: _Tape) -> Iterator[None]:
        """Sum up what layers keep for the backward pass: about a tensor of their output's size."""
        last = max(self._ends)
        units = map(self._network.get_submodule, self._units[: last + 1])
        kept = {inner for unit in units for inner in unit.modules()}

        def count(module: nn.Module, _inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor):
                tape.whole += output.nbytes
                tape.bytes += output.nbytes * (module in kept)

        layers = [module for module in self.model.modules() if not [*module.children()]]
        handles = [module.register_forward_hook(count) for module in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _skipping(
        self, tape: _Tape, start: int, following: Following, hollow: bool
    ) -> Iterator[None]:
        """Let units give what was kept, or anything where their output goes nowhere else."""

        def stand_in(number: int) -> Callable:
            outputs = iter(tape.trace.outputs[number])

            def stood_for(tensor: Tensor) -> Tensor:
                # A copy, since what comes next may work in place.
                return blank(tensor, torch.device("meta") if hollow else self.x.device).clone()

            def forward(*_inputs: object, **_options: object) -> Any:
                with following.quiet():
                    given = next(outputs)
                    return given.clone() if number == start else mapped(given, stood_for)

            return forward

        skipped = [number for number in tape.trace.outputs if number <= start]
        units = {number: self._network.get_submodule(self._units[number]) for number in skipped}
        before = {number: vars(unit).get("forward") for number, unit in units.items()}
        try:
            for number, unit in units.items():
                unit.forward = stand_in(number)
            yield
        finally:
            for number, unit in units.items():
                if before[number] is not None:
                    unit.forward = before[number]
                else:
                    vars(unit).pop("forward", None)
