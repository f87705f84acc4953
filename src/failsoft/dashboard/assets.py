"""The files of the page: our own, and uPlot out of the `youplot` wheel."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

from ..logs import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

UPLOT = {
    "uplot.js": ("uplot.iife.min.js", "2d27e8ad3d228164525ce213f9dc716f39b4e3aee0cc773fb3491c96cf4921a2"),
    "uplot.css": ("uplot.min.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
}
"""uPlot 1.6.31 (MIT), byte for byte as its authors released it. A page with controls runs no other script unseen."""


class Asset:
    """One file, ready to be sent."""

    def __init__(self, name: str, body: bytes) -> None:
        self.body = body
        self.kind = _KINDS[name.rpartition(".")[2]]
        self.tag = f'"{sha256(body).hexdigest()[:16]}"'


def load_assets() -> dict[str, Asset]:
    """Every file of the page by its name. Without uPlot the page shows tables in place of charts."""
    found = {one.name: one.read_bytes() for one in files(__package__).joinpath("static").iterdir() if _is_asset(one)}
    return {name: Asset(name, body) for name, body in {**found, **_uplot()}.items()}


def _is_asset(one: Traversable) -> bool:
    return one.is_file() and one.name.rpartition(".")[2] in _KINDS


def _uplot() -> dict[str, bytes]:
    try:
        vendor = files("youplot").joinpath("vendor")
        bodies = {name: vendor.joinpath(file).read_bytes() for name, (file, _) in UPLOT.items()}
    except (ImportError, OSError):
        return dict.fromkeys(UPLOT, b"")
    for name, (file, digest) in UPLOT.items():
        if sha256(bodies[name]).hexdigest() != digest:
            warn("the dashboard draws no charts: youplot's %s is not that of uPlot 1.6.31", file)
            return dict.fromkeys(UPLOT, b"")
    return bodies
