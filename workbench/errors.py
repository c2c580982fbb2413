"""The errors that a person is meant to read."""

from collections.abc import Iterator
from contextlib import contextmanager


class WorkbenchError(ValueError):
    """Bad input, in one sentence: what was found, what was expected, what to do.

    The command line prints it on one line and exits with status 2; the page shows
    it in a red box. Everything else that is raised is a defect.
    """


@contextmanager
def readable(who: str, path: object) -> Iterator[None]:
    """Turn what the system says against a path into one sentence.

    Raises:
        WorkbenchError: If what is done here with the path fails.
    """
    try:
        yield
    except WorkbenchError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # Runtime: ~ of no user
        reason = getattr(error, "strerror", None) or str(error)
        where = getattr(error, "filename", None) or path
        raise WorkbenchError(
            f"{who}: {where} cannot be read ({reason}); check the path."
        ) from error


class LostProcess(Exception):  # noqa: N818 - of another process, and no defect
    """Another process of this run has ended, so that this one cannot go on."""
