"""The menus at the top of the page: at most one is open, below its button."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets as w

from workbench.page.session import Session


@dataclass(frozen=True, slots=True, eq=False)
class Menu:
    """One menu."""

    name: str  # in a teacher's link
    label: str
    tooltip: str
    content: w.Widget
    refresh: Callable[[], None] | None = None  # called each time it opens


class Drawer:
    """Buttons that each open one menu and close the others."""

    def __init__(self, session: Session, *menus: Menu) -> None:
        self._session = session
        self._menus = {menu.name: menu for menu in menus}
        self.toggles = {
            menu.name: w.ToggleButton(description=menu.label, tooltip=menu.tooltip)
            for menu in menus
        }
        for name, toggle in self.toggles.items():
            toggle.observe(self._handler(name), names=["value"])
        self.buttons = w.Box(list(self.toggles.values()))
        self.buttons.add_class("wb-menus")
        self.widget = w.Box([])
        self.widget.add_class("wb-drawer")
        self._draw("")
        session.watch(self._refresh, "locked")

    def open(self, name: str) -> None:
        """Open a menu unless it is locked; ``""`` closes all."""
        if name in self._session.locked:
            name = ""
        for other, toggle in self.toggles.items():
            toggle.value = other == name

    def _handler(self, name: str) -> Callable[[Mapping[str, Any]], None]:
        def pressed(change: Mapping[str, Any]) -> None:
            with self._session.guarded():
                if change["new"]:
                    self.open(name)
                    self._draw(name)
                elif not any(toggle.value for toggle in self.toggles.values()):
                    self._draw("")

        return pressed

    def _refresh(self) -> None:
        for name, toggle in self.toggles.items():
            toggle.disabled = name in self._session.locked
            if toggle.disabled:
                toggle.value = False

    def _draw(self, name: str) -> None:
        menu = self._menus.get(name)
        if menu is not None and menu.refresh is not None:
            menu.refresh()
        self.widget.children = () if menu is None else (menu.content,)
        self.widget.layout.display = "none" if menu is None else None
