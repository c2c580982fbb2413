"""The browser code as one script: ES modules, joined by their imports.

The package ships the modules exactly as they are written and checked; they are joined
when a page is drawn, by this file alone. It supports only the part of ES modules that
``browser/*.js`` needs: each import names what it takes from a neighbouring file, and
each export precedes a ``const``, ``function`` or ``class``.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

BROWSER = files("workbench.ui.views") / "browser"

_IMPORT = re.compile(
    r'^import \{(\s*\w+(?:,\s*\w+)*,?\s*)\} from "\./([\w-]+\.js)"$', re.MULTILINE
)
_EXPORT = re.compile(r"^export (const|function|class) (\w+)", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*(?://[^\n]*|/\*\*(?:(?!\*/)[\s\S])*\*/)\n", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


@cache
def script(entry: str, folder: Traversable = BROWSER) -> str:
    """Return an expression whose value is the exports of a module.

    Args:
        entry: File name of the module.
        folder: The folder that contains it and its imports.

    Raises:
        ValueError: If modules import one another in a circle, or use unsupported
            syntax.
    """
    modules: dict[str, str] = {}  # each after its imports
    _add(folder, entry, modules, ())
    body = "\n".join(modules.values())
    return f"(() => {{\n{body}\nreturn {_variable(entry)}\n}})()"


def _add(
    folder: Traversable, name: str, modules: dict[str, str], above: tuple[str, ...]
) -> None:
    """Add a module after its imports."""
    if name in above:
        raise ValueError(f"script: a circle of imports, {' -> '.join((*above, name))}.")
    if name in modules:
        return
    source = (folder / name).read_text("utf-8")
    for _, imported in _IMPORT.findall(source):
        _add(folder, imported, modules, (*above, name))
    modules[name] = _function(name, _COMMENT.sub("", source))


def _function(name: str, source: str) -> str:
    """Wrap a module in a function that is called at once, which gives it a scope."""
    exported = ", ".join(found for _, found in _EXPORT.findall(source))
    source = _IMPORT.sub(
        lambda found: f"const {{{found[1]}}} = {_variable(found[2])}", source
    )
    source = _EXPORT.sub(r"\1 \2", source)
    if left := _LEFT.search(source):
        raise ValueError(
            f"script: {name} says {left[0]!r}; write it as import {{a}} from "
            '"./file.js", or export before a const, function or class.'
        )
    return (
        f"const {_variable(name)} = (() => {{\n{source}\nreturn {{{exported}}}\n}})()"
    )


def _variable(name: str) -> str:
    """The name of a module in the script."""
    return "$" + re.sub(r"\W", "_", name.removesuffix(".js"))
