"""A forward pass that starts at the first random block instead of at the input.

What lies below that block is as it was trained, so for the same images it gives the same
activations and the same graph for the backward pass. Both are kept for one batch, once for each
backward rule, and every later pass over that batch starts from them.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from saliency_sanity.attribution.base import leaf_of, shortened
from saliency_sanity.attribution.rectifiers import interception
from saliency_sanity.networks.classifier import network_of
from saliency_sanity.networks.forward import logits_of

# Activations kept at most. What does not fit is computed anew each time.
_CPU_BYTES, _GPU_BYTES = 2 * 2**30, 8 * 2**30


class Piece(Protocol):
    """What is asked of a block; see ``blocks.Block``."""

    name: str
    modules: tuple[str, ...]
    cut: bool


@torch.no_grad()
def restartable(model: nn.Module, blocks: Sequence[Piece], x: Tensor) -> set[str]:
    """Names of the blocks with a cut behind which a pass over ``x`` can be started.

    That is where it gives the logits of the whole pass with NaN in place of what all other blocks
    before it give: no comparison, no detached path and no second call of theirs uses that.
    """
    replay, leaf, valid = Replay(model, tuple(blocks), x), leaf_of(model, x), set()
    tape = _Tape(leaf, 0)
    replay._clean = replay.blocks
    with replay._recording(tape):
        logits = logits_of(model, leaf)
    for block, following in pairwise(replay.blocks):
        if not block.cut:
            continue
        replay.random({following.name})
        try:
            with replay._skipping(tape, torch.nan):
                again = logits_of(model, leaf)
        except Exception:
            continue
        if (again - logits).abs().max() <= 1e-4 * logits.abs().max():
            valid.add(block.name)
    return valid


@contextmanager
def replaying(model: nn.Module, blocks: Sequence[Piece], x: Tensor) -> Iterator["Replay"]:
    """Keep what the trained part of ``model`` gives for the images ``x``, within the block."""
    token = shortened.set(Replay(model, tuple(blocks), x))
    try:
        yield shortened.get()
    finally:
        shortened.reset(token)


@dataclass
class _Tape:
    leaf: Tensor
    hits: int  # rectifiers met, for whoever intercepts them
    bytes: int = 0  # of the part that is kept
    whole: int = 0  # of the whole pass
    outputs: dict[str, Tensor] = field(default_factory=dict)  # of the cuts
    # Of every unit, by call; None where it gave something else than a tensor.
    shapes: dict[str, list[torch.Size | None]] = field(default_factory=dict)


@dataclass
class Replay:
    """Graphs kept for slices of the images ``x``; see ``replaying``.

    ``random(names)`` says which blocks are random from now on; all others must be as they were
    trained until it is called again.
    """

    model: nn.Module
    blocks: tuple[Piece, ...]
    x: Tensor
    _tapes: dict[tuple, _Tape] = field(default_factory=dict)
    _logits: dict[tuple, Tensor] = field(default_factory=dict)  # since blocks last changed
    _hollow: bool = True  # tensors without memory may stand where nothing is used
    _clean: tuple[Piece, ...] = ()
    _cut: str | None = None

    def __post_init__(self):
        self.random(())

    def random(self, names: Collection[str]) -> None:
        """Start passes behind the last cut before the first of the named blocks."""
        self._logits.clear()
        clean: list[Piece] = []
        for block in self.blocks:
            if block.name in names:
                break
            clean.append(block)
        # Nothing is gained behind the last block, which gives the logits.
        while clean and (len(clean) == len(self.blocks) or not clean[-1].cut):
            clean.pop()
        self._clean = tuple(clean)
        self._cut = clean[-1].modules[-1] if clean else None
        valid = {block.modules[-1] for block in clean}
        for tape in self._tapes.values():
            # Random from here on; dropping the outputs frees their graph.
            for path in set(tape.outputs) - valid:
                del tape.outputs[path]

    def covers(self, model: nn.Module, part: Tensor) -> bool:
        """Whether ``part`` is a slice of the images, and there is a block to start behind."""
        return (
            self._cut is not None
            and model is self.model
            and part.dtype == self.x.dtype
            and part.untyped_storage().data_ptr() == self.x.untyped_storage().data_ptr()
        )

    def forward(self, part: Tensor) -> tuple[Tensor, Tensor, bool]:
        """Leaf, logits, and whether the graph must be retained, for a slice of the images."""
        current = interception()
        key = (current and repr(current.rule), part.storage_offset(), part.shape, part.stride())
        tape = self._tapes.get(key)
        if key in self._logits:
            logits = self._logits[key]
            return tape.leaf, logits if torch.is_grad_enabled() else logits.detach(), True
        if tape is not None and self._cut in tape.outputs:
            if current is not None:
                current.hits += tape.hits
            logits = self._again(tape)
            # A second method that asks for the same pass gets it, if there is room for all of it.
            whole = sum(kept.whole for kept in self._tapes.values())
            if current is None and logits.requires_grad and whole <= self._budget:
                self._logits[key] = logits
            return tape.leaf, logits, True
        leaf = leaf_of(self.model, part)
        if not leaf.requires_grad:
            return leaf, logits_of(self.model, leaf), False
        self._tapes.pop(key, None)
        tape = _Tape(leaf, -current.hits if current is not None else 0)
        with self._recording(tape):
            logits = logits_of(self.model, leaf)
        tape.hits += current.hits if current is not None else 0
        room = self._budget - sum(kept.bytes for kept in self._tapes.values())
        if tape.bytes <= room:
            self._tapes[key] = tape
        return leaf, logits, tape.bytes <= room

    @property
    def _budget(self) -> int:
        return _GPU_BYTES if self.x.is_cuda else _CPU_BYTES

    def _again(self, tape: _Tape) -> Tensor:
        """Logits of a pass that starts behind the cut."""
        if self._hollow:
            try:
                with self._skipping(tape, hollow=True):
                    return logits_of(self.model, tape.leaf)
            except Exception:
                # Something between the units joins what is skipped with tensors that are not.
                self._hollow = False
        with self._skipping(tape):
            return logits_of(self.model, tape.leaf)

    def _modules(self) -> Iterator[tuple[str, nn.Module]]:
        network = network_of(self.model)
        for block in self._clean:
            for path in block.modules:
                yield path, network.get_submodule(path)

    @contextmanager
    def _recording(self, tape: _Tape) -> Iterator[None]:
        cuts = {block.modules[-1] for block in self._clean if block.cut}

        def remember(path: str) -> Callable:
            def hook(_module: nn.Module, _inputs: tuple, output: object) -> Tensor | None:
                shape = output.shape if isinstance(output, Tensor) else None
                tape.shapes.setdefault(path, []).append(shape)
                if path not in cuts:
                    return None
                tape.outputs[path] = output
                # A copy, since the next layer may work in place.
                return output.clone()

            return hook

        def count(module: nn.Module, _inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor):
                tape.whole += output.nbytes
                tape.bytes += output.nbytes * (module in kept)

        kept = {inner for _, unit in self._modules() for inner in unit.modules()}
        handles = []
        try:
            for path, unit in self._modules():
                handles.append(unit.register_forward_hook(remember(path)))
            # A layer keeps about one tensor of its output's size for the backward pass.
            for module in self.model.modules():
                if not any(module.children()):
                    handles.append(module.register_forward_hook(count))
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _skipping(
        self, tape: _Tape, filling: float | None = None, *, hollow: bool = False
    ) -> Iterator[None]:
        """Let units give what was kept, or anything where their output goes nowhere else."""
        output = tape.outputs[self._cut]
        output = output if torch.is_grad_enabled() else output.detach()

        def stand_in(path: str) -> Callable:
            shapes = iter(tape.shapes[path])

            def forward(*_inputs: object, **_options: object) -> Tensor:
                if path == self._cut:
                    return output.clone()
                blank = output.new_empty(next(shapes), device="meta" if hollow else None)
                return blank if filling is None else blank.fill_(filling)

            return forward

        # What gives no tensor runs as it is: its shape is not known.
        units = {path: unit for path, unit in self._modules() if None not in tape.shapes[path]}
        before = {path: vars(unit).get("forward") for path, unit in units.items()}
        try:
            for path, unit in units.items():
                unit.forward = stand_in(path)
            yield
        finally:
            for path, unit in units.items():
                if before[path] is not None:
                    unit.forward = before[path]
                else:
                    vars(unit).pop("forward", None)
