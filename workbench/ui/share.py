"""Share: the link to this page. Code: the Python that makes what it shows."""

from __future__ import annotations

import os
from html import escape

import ipywidgets as w

from workbench.page.link import write_link
from workbench.page.recipe import recipe
from workbench.page.session import Session


def shared_places() -> dict[str, str]:
    """Return what `copy.js` needs to build a link that others can follow.

    On a hub, nobody else may open a page's own address, so ``/user/NAME/...`` becomes
    ``/hub/user-redirect/...``, which leads everybody to their own server. Binder has no
    users to redirect to: there the link builds and opens the same page.
    """
    environ = os.environ
    own = environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
    if not own.startswith("/"):
        return {}
    launch, request = (
        environ.get(f"BINDER_{name}", "")
        for name in ("LAUNCH_HOST", "PERSISTENT_REQUEST")
    )
    if launch.startswith("https://") and request:
        return {"own": own, "binder": f"{launch.rstrip('/')}/{request.strip('/')}"}
    hub = environ.get("JUPYTERHUB_BASE_URL", "/").rstrip("/")
    return {"own": own, "any": f"{hub}/hub/user-redirect/"}


class SharePanel:
    """The link that reproduces this page; ``copy.js`` completes and copies it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.link = w.HTML()
        self.widget = w.VBox([self.link])
        self.widget.add_class("wb-menu")
        watched = ("view", "preset", "pinned", "pinned_preset", "weighting")
        session.watch(self._refresh, *watched, "settings", "limits", "locked")

    def _refresh(self) -> None:
        session = self._session
        query = escape(write_link(session), quote=True)
        own = "" if session.preset or session.study is None else OWN
        if session.pinned is not None and not session.pinned_preset:
            own += OWN_PINNED
        places = "".join(
            f' data-{name}="{escape(value, quote=True)}"'
            for name, value in shared_places().items()
        )
        field = (
            f'<input readonly aria-label="Link to this page" value="?{query}"{places}>'
        )
        self.link.value = (
            "<h2>A link to this page, as it is now</h2>"
            f'<div class="wb-copied wb-line">{field}{_copy("link")}</div>'
            f'<p class="wb-muted">{own}{TEACH}</p>'
        )


OWN = (
    "A run of your own is not in the link: it carries its settings, and one press on "
    "Train makes it again. "
)
OWN_PINNED = "The pinned study is not a preset, so the link cannot include it. "
TEACH = (
    "For a class: add <code>&amp;hide=training,open</code>, "
    "<code>&amp;lock=epochs,lr</code>, <code>&amp;max_epochs=20</code> or "
    "<code>&amp;max_per_class=50</code>."
)


class CodePanel:
    """The code that reproduces the study shown."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.code = w.HTML()
        self.widget = w.VBox([self.code])
        self.widget.add_class("wb-menu")
        session.watch(self._refresh, "study")

    def _refresh(self) -> None:
        study = self._session.study
        code = "" if study is None else recipe(study)
        self.code.value = (
            "<h2>The code that makes this</h2>"
            f'<div class="wb-copied"><pre tabindex="0">{escape(code)}</pre>'
            f"{_copy('code')}</div>"
            '<p class="wb-muted">It runs as pasted where hessian-workbench is '
            "installed, unless a comment in it says what to fill in, and gives the "
            "same numbers on the same kind of machine.</p>"
        )


def _copy(what: str) -> str:
    """A button that ``copy.js`` handles, and a place for its response."""
    return (
        f'<button type="button" class="jupyter-button wb-copy">Copy {what}</button>'
        '<span role="status"></span>'
    )
