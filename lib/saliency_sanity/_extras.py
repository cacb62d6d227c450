"""What the core does without, and which extra of this package brings it."""

import importlib.util


def need(what: str, extra: str, *modules: str) -> None:
    """Raise ImportError, which names the extra, unless all ``modules`` are installed.

    For modules that cannot do without them, called before the first such import.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ImportError(
            f"{what} needs {', '.join(missing)}, which the core does without; "
            f"run: pip install 'saliency-sanity[{extra}]'",
            name=missing[0],
        )
