"""Which failsoft this is."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("failsoft")
except PackageNotFoundError:  # copied rather than installed
    __version__ = "unknown"
