"""Where integrations already pass: transports, middleware and adapters of clients, each imported by its own name.

Nothing here is imported with failsoft, and no room here imports a client before the user has asked for that client's.
Each room is imported when it is first asked for: `failsoft.adapters.httpx`, `redis`, `sqlalchemy`, ...
"""

TYPE_CHECKING = False

_ROOMS = (
    "ai", "aiohttp", "asyncpg", "django", "grpc", "httpx", "nats", "psycopg", "redis", "requests", "sqlalchemy",
    "starlette", "websockets",
)  # fmt: skip

if not TYPE_CHECKING:

    def __getattr__(name):
        from importlib import import_module

        if name in _ROOMS:
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*_ROOMS, *(name for name in globals() if name.startswith("__"))})
