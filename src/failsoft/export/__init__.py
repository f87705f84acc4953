"""What others read: Prometheus, OpenTelemetry, the tools of HdrHistogram. All of it looks from outside the calls.

Each room is imported when it is first asked for: `failsoft.export.prometheus`, `opentelemetry`, `hdr`, `files`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import files, hdr, opentelemetry, prometheus

__all__ = ["files", "hdr", "opentelemetry", "prometheus"]

if not TYPE_CHECKING:

    def __getattr__(name):
        from importlib import import_module

        if name in __all__:
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
