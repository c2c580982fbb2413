"""The errors that a person is meant to read."""


class WorkbenchError(ValueError):
    """Bad input, in one sentence: what was found, what was expected, what to do.

    The command line prints it on one line and exits with status 2; the page shows
    it in a red box. Everything else that is raised is a defect.
    """


class LostProcess(Exception):  # noqa: N818 - of another process, and no defect
    """Another process of this run has ended, so that this one cannot go on."""
