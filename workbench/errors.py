"""Errors written for people to read, and text that is safe to show."""

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager


class WorkbenchError(ValueError):
    """Bad input, in one sentence: what was found, what was expected, what to do.

    The command line prints it on one line and exits with status 2; the page shows it in
    a red box. Any other exception is a bug. Names and text from files are made
    `printable`.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(re.sub(r"\s*[\t\r\n]\s*", " ", sentence)))


@contextmanager
def readable(who: str, path: object) -> Iterator[None]:
    """Turn a system error about a path into one sentence.

    Raises:
        WorkbenchError: If the body raises such an error.
    """
    try:
        yield
    except WorkbenchError:
        raise
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # Runtime: ~ without home
        reason = getattr(error, "strerror", None) or str(error)
        where = getattr(error, "filename", None) or path
        raise WorkbenchError(
            f"{who}: {where} cannot be read ({reason}); check the path."
        ) from error


class LostProcess(Exception):  # noqa: N818 - of another process, and no defect
    """Another process of this run has ended, so this one cannot continue."""


# Marks that change the direction of the text after them, which can disguise it.
_TURNING = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def printable(text: str) -> str:
    r"""Escape control characters, unpaired surrogates and direction marks.

    Text from a file can then neither control a terminal nor fail to encode.

    Example:
        >>> print(printable("caf\u00e9 \x1b[2J \udce9"))
        café \x1b[2J \udce9
    """
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _TURNING
        else c
        for c in text
    )
