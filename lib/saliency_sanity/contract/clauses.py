"""What every method owes its caller, and the report on how one keeps it."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]


class Check(NamedTuple):
    """What is checked, as a sentence each; ``{names}`` in them stand for the case at hand."""

    title: str
    valid: str
    fix: str
    severity: Severity = "error"


# In the order of the report.
CHECKS = {
    "runs": Check(
        "runs to its end",
        "A method is a callable method(model, x, target) that returns a map.",
        "Call method(model, x, target) with x {full} and target {target} and mend that line.",
    ),
    "tensor": Check(
        "returns a tensor",
        "The map is one torch.Tensor.",
        "Return the map, and it alone; torch.from_numpy(array) makes one of an array.",
    ),
    "shape": Check(
        "a value for every pixel",
        "The map is {full} or {single}.",
        "Keep the batch, and a sum over channels with keepdim=True; bring channels before height "
        "and width by permute; enlarge a coarse map by torch.nn.functional.interpolate.",
    ),
    "dtype": Check(
        "numbers of x's type", "The map is {dtype}, like x.", "Return the map.to(x.dtype)."
    ),
    "device": Check(
        "on x's device", "The map lies on {device}, like x.", "Return the map.to(x.device)."
    ),
    "graph": Check(
        "without a graph", "The map does not require a gradient.", "Return the map.detach()."
    ),
    "finite": Check(
        "finite numbers",
        "No value of a map is NaN or infinite.",
        "Look for a division by zero or the logarithm of zero, and clamp what it is applied to.",
    ),
    "constant": Check(
        "not the same everywhere",
        "A map ranks places, so it differs between them.",
        "See whether the gradient reaches the picture and nothing clamps or rounds it away.",
    ),
    "weights": Check(
        "leaves weights and buffers",
        "Parameters and buffers come back as they were.",
        "Work on copy.deepcopy(model), or put them back in a finally block.",
    ),
    "flags": Check(
        "leaves modes and flags",
        "Training flags, requires_grad and torch's own settings come back as they were.",
        "Put them back in a finally block; `with torch.enable_grad():` does so by itself.",
    ),
    "hooks": Check(
        "leaves no hooks",
        "Hooks and modules come back as they were.",
        "Keep the handle that register_... returns, and call its remove() in a finally block.",
    ),
    "attributes": Check(
        "leaves attributes",
        "Plain attributes of modules, and what is in them, come back as they were.",
        "Note what you set, as in eps = module.eps, and put it back in a finally block.",
    ),
    "gradients": Check(
        "leaves .grad of the weights",
        "Parameters' .grad comes back as it was.",
        "Use torch.autograd.grad(score, x) in place of score.backward().",
        "warning",
    ),
    "input": Check(
        "leaves x and target",
        "The tensors that were given come back as they were.",
        "Work on x.detach().clone().",
    ),
    "reproducible": Check(
        "twice the same map",
        "The map depends on model, x and target alone.",
        "Set a seed: draw with generator=torch.Generator().manual_seed(0), made within the call.",
    ),
    "global": Check(
        "leaves random generators",
        "The generators that torch, NumPy and Python share with all code stay as they are.",
        "Draw from a torch.Generator of your own in place of torch.manual_seed(...).",
        "warning",
    ),
    "batch": Check(
        "each picture by itself",
        "A picture has the same map alone as in any batch.",
        "Normalize and sort within a picture, as in x.amax((1, 2, 3), keepdim=True), and keep "
        "the first dimension where it is 1.",
    ),
    "target": Check(
        "another class, another map",
        "The map explains the class that target asks for.",
        "Explain logits.gather(1, target[:, None]); a method that means to see the picture only "
        "may stay as it is.",
        "warning",
    ),
}


# What helps where a method cannot explain a network, and nothing is wrong with either.
ELSEWHERE = "Take another network or another method; nothing in the method needs mending."


@dataclass(frozen=True)
class Violation:
    """What a method does against the contract: what was found, what is valid, and what helps.

    ``what`` is the title of the check, ``key`` its key in ``CHECKS``. An ``error`` makes results
    wrong or impossible; a ``warning`` is said and let pass.
    """

    key: str
    what: str
    found: str
    valid: str
    fix: str
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{self.what}. {self.details}"

    @property
    def details(self) -> str:
        """What was found, what is valid, and what helps, each with its name."""
        return f"Found: {self.found} Valid: {self.valid} Fix: {self.fix}"


class ContractError(ValueError):
    """A method that breaks the contract; ``report`` holds every check."""

    def __init__(self, report: "Report"):
        self.report = report
        errors = [violation for violation in report if violation.severity == "error"]
        points = "\n".join(f"- {violation}" for violation in errors)
        super().__init__(
            f"method {report.name!r} breaks the contract in {len(errors)} "
            f"point{'s' * (len(errors) > 1)}:\n{points}"
        )


@dataclass(frozen=True, repr=False)
class Report(Sequence[Violation]):
    """The violations found, as a sequence, and on a page a table of all checks.

    ``unchecked`` are those that need what failed, or that are not asked of this method.
    """

    name: str
    violations: tuple[Violation, ...]
    unchecked: tuple[str, ...]

    def __getitem__(self, index):
        return self.violations[index]

    def __len__(self) -> int:
        return len(self.violations)

    def rows(self) -> list[tuple[str, str, str]]:
        """Title, result and details of every check."""
        broken = {violation.key: violation for violation in self.violations}
        rows = []
        for key, one in CHECKS.items():
            if key in broken:
                found = broken[key]
                rows.append((one.title, found.severity, found.details))
            else:
                rows.append((one.title, "not checked" if key in self.unchecked else "kept", ""))
        return rows

    def __repr__(self) -> str:
        lines = [f"{result:11}  {title}. {said}".rstrip() for title, result, said in self.rows()]
        return "\n".join([f"Contract of {self.name}", *lines])

    def _repr_html_(self) -> str:
        name = html.escape(self.name)
        body = "\n".join(
            f'<tr><th scope="row">{html.escape(title)}</th>'
            f"<td>{_MARKS[result]} {result}</td><td>{html.escape(said)}</td></tr>"
            for title, result, said in self.rows()
        )
        return (
            f'<div class="claims-scroll" role="region" aria-label="Contract of {name}" '
            f'tabindex="0">\n<table class="contract">\n<caption>Contract of {name}</caption>\n'
            '<thead><tr><th scope="col">Check</th><th scope="col">Result</th>'
            f'<th scope="col">Found</th></tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>'
        )


_MARKS = {"kept": "✓", "error": "✗", "warning": "!", "not checked": "–"}
