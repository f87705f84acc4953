"""Clients of Redis and Valkey whose commands go through an integration: redis-py and valkey-py, sync and asyncio.

    from failsoft.adapters.redis import client

    cache = failsoft.integration("cache", "cache")
    store = client(cache, host="127.0.0.1")                   # client(cache, valkey, ...), async_client(cache, ...)

The client's own retries are off: redis-py 8 would make ten, each with its own time limit, before anybody hears of it.
Those of the integration know its budget, its breaker and the deadline, and send again only what may be sent twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from importlib import import_module

from .._core import remaining
from ..integrations import Integration
from .openings import refuse_while_open

__all__ = ["IDEMPOTENT", "async_client", "client", "messages"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from ..course import AnyGuard

_READING = (
    "BITCOUNT BITPOS DBSIZE DUMP ECHO EVALSHA_RO EVAL_RO EXISTS EXPIRETIME FCALL_RO GEODIST GEOHASH GEOPOS GEOSEARCH "
    "GET GETBIT GETRANGE HEXISTS HGET HGETALL HKEYS HLEN HMGET HRANDFIELD HSCAN HSTRLEN HVALS INFO KEYS LINDEX LLEN "
    "LPOS LRANGE MGET PEXPIRETIME PFCOUNT PING PTTL RANDOMKEY SCAN SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS "
    "SMISMEMBER SRANDMEMBER SSCAN STRLEN SUNION TIME TTL TYPE XLEN XPENDING XRANGE XREAD XREVRANGE ZCARD ZCOUNT ZDIFF "
    "ZINTER ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANGEBYSCORE ZREVRANK "
    "ZSCAN ZSCORE ZUNION"
)
_ALIKE = (
    "DEL EXPIREAT HDEL HMSET HSET LSET MSET PERSIST PEXPIREAT PSETEX SADD SET SETBIT SETEX SETRANGE SREM TOUCH UNLINK "
    "ZREM"
)
"""What leaves the same behind when it is done twice."""

IDEMPOTENT = frozenset(_READING.split()) | frozenset(_ALIKE.split())
"""Commands that may be sent twice."""

_CONDITIONS = frozenset({"NX", "GET", "IFEQ", "IFGT"})
"""Options of SET whose second sending answers otherwise than the first: a lock would look taken by somebody else."""

_WAITING = "BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN MONITOR WAIT WAITAOF"

_BLOCKING = frozenset(_WAITING.split())
"""Commands that wait for others than the server: their patience says nothing about it."""

_ONCE = object()
"""Where the guard of a SET is kept that may not be sent twice."""

_GUARDS_MOST = 512
"""Commands by name, in whatever spelling; what more there are share one guard."""

_OURS = ("connection_pool", "retry_on_error", "retry_on_timeout", "single_connection_client")


def client(
    integration: Integration,
    library: ModuleType | None = None,
    *,
    url: str | None = None,
    retry: bool = True,
    retry_commands: Iterable[str] = IDEMPOTENT,
    **options: Any,
) -> Any:
    """A `redis.Redis`, or `valkey.Valkey` by `library=valkey`, whose commands go through the integration.

    Each command is an operation of its name ("GET"). A pipeline is one, PIPELINE, however many commands it has, and is
    not repeated. Commands that block for others (BLPOP, XREAD with BLOCK, ...) are refused while the circuit is open,
    and neither bounded nor counted otherwise; so is what goes through `pubsub()`: see `messages`.

    - `url`: where the server is, instead of `host`, `port` and the like.
    - `retry=False`: one attempt for each command.
    - `retry_commands`: what may be sent twice, `IDEMPOTENT` by default. SET with NX or GET never is; other commands are
      sent again only where the connection was refused.
    - `options`: those of the client. `socket_connect_timeout` and `socket_timeout` are `timeouts.connect` and
      `timeouts.read` unless given; a command is also bounded by what is left of its attempt and of any deadline around
      it, over all pieces of its answer. `connection_pool`, which has retries and time limits of its own,
      `single_connection_client`, `retry_on_error` and `retry_on_timeout` are ours to give: TypeError.
    """
    return _made(integration, library, "", url, retry, retry_commands, options)


def async_client(
    integration: Integration,
    library: ModuleType | None = None,
    *,
    url: str | None = None,
    retry: bool = True,
    retry_commands: Iterable[str] = IDEMPOTENT,
    **options: Any,
) -> Any:
    """The same for asyncio: a `redis.asyncio.Redis` or `valkey.asyncio.Valkey`. What takes too long is cancelled."""
    return _made(integration, library, ".asyncio", url, retry, retry_commands, options)


async def messages(client: Any, *channels: str, patterns: Iterable[str] = ()) -> AsyncIterator[dict[str, Any]]:
    """The messages of channels, over one connection of an asyncio client: what `Integration.stream` connects with.

        async for message in market.stream(lambda: messages(store, "quotes"), stale_after=2.0): ...

    Each is as of `PubSub.listen`, without those that tell of subscriptions.
    """
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    try:
        if channels:
            await pubsub.subscribe(*channels)
        if several := tuple(patterns):
            await pubsub.psubscribe(*several)
        while True:
            # In turns: its own wait for ever would end with the client's socket_timeout.
            message = await pubsub.get_message(timeout=_TURN)
            if message is not None:
                yield message
    finally:
        await pubsub.aclose()


_TURN = 60.0
"""Seconds."""


def _made(
    integration: Integration,
    library: ModuleType | None,
    face: str,
    url: str | None,
    retry: bool,
    retry_commands: Iterable[str],
    options: dict[str, Any],
) -> Any:
    if not isinstance(integration, Integration):
        raise TypeError(f"integration must be an Integration, got {integration!r}")
    if not isinstance(retry, bool):
        raise TypeError(f"retry must be True or False, got {retry!r}; the integration's retry_policy says how often")
    if isinstance(retry_commands, str):
        raise TypeError(f"retry_commands must be several names of commands, got {retry_commands!r}")
    for name in _OURS:
        if name in options:
            raise TypeError(
                f"client gives {name} itself; the integration says what is retried, and how long it may take"
            )
    package = _library() if library is None else library.__name__
    module = import_module(package + face)
    none = import_module(f"{package}{face}.retry").Retry(import_module(f"{package}.backoff").NoBackoff(), 0)
    limits = integration.config.timeouts
    settings = {"socket_connect_timeout": limits.connect, "socket_timeout": limits.read, "retry": none, **options}
    bare = module.Valkey if hasattr(module, "Valkey") else module.Redis
    commands = _Commands(integration, bare, module.client.Pipeline, retry, retry_commands)
    # A class for each, since what a client derives from itself (`client()`, `transaction()`) is made by its class.
    cls: Any = type(bare.__name__, (_Guarded, bare), {"_commands": commands, "__module__": bare.__module__})
    made = cls(**settings) if url is None else cls.from_url(url, **settings)
    if not face:
        pool = made.connection_pool
        pool.connection_class = type(pool.connection_class.__name__, (_Bounded, pool.connection_class), {})
    return made


def _library() -> str:
    for name in ("redis", "valkey"):
        try:
            return import_module(name).__name__
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    raise ImportError("neither redis nor valkey is installed: pip install 'failsoft[redis]'")


class _Commands:
    """The guards of one client, made when a command is first sent."""

    __slots__ = ("_again", "_bare", "_pipeline", "_retry", "guards", "integration", "pipelines")

    def __init__(
        self, integration: Integration, bare: Any, pipeline: Any, retry: bool, retry_commands: Iterable[str]
    ) -> None:
        self.integration = integration
        self.guards: dict[object, AnyGuard] = {}
        self._bare = bare
        self._retry = retry
        self._again = frozenset(name.upper() for name in retry_commands)
        # Not repeated: a pipeline forgets its commands when it fails, and a second run of none would look well.
        self.pipelines: Any = type(
            pipeline.__name__,
            (_GuardedPipeline, pipeline),
            {
                "_execute_guarded": self._guard(pipeline.execute, "PIPELINE"),
                "_immediately_guarded": self._guard(pipeline.immediate_execute_command, "WATCH"),
                "__module__": pipeline.__module__,
            },
        )

    def _guard(self, fn: Any, operation: str) -> AnyGuard:
        guard: AnyGuard = self.integration.guard(fn, operation=operation, retry=False)
        return guard

    def made(self, spelling: object) -> AnyGuard:
        """The guard of a command that has not been sent before, in this spelling."""
        name = (spelling.decode("latin-1") if isinstance(spelling, bytes) else str(spelling)).upper()
        if len(self.guards) >= _GUARDS_MOST:
            spelling = name = "OTHER"
            if name in self.guards:
                return self.guards[name]
        guard: AnyGuard = self.integration.guard(
            self._bare.execute_command, operation=name, retry=self._retry, idempotent=name in self._again
        )
        return self.guards.setdefault(spelling, guard)

    def once(self) -> AnyGuard:
        """The guard of a SET that may not be sent twice."""
        guard = self.guards.get(_ONCE)
        if guard is None:
            guard = self.integration.guard(
                self._bare.execute_command, operation="SET", retry=self._retry, idempotent=False
            )
            self.guards[_ONCE] = guard
        return guard


class _Guarded:
    """A client whose commands are guarded; sync or asyncio, as the guards are."""

    _commands: Any
    _special = frozenset({"SET", "XREAD", "XREADGROUP", *_BLOCKING})

    def execute_command(self, *args: Any, **options: Any) -> Any:
        commands, name = self._commands, args[0]
        if name in self._special:
            if name == "SET":
                if len(args) > 3 and not _CONDITIONS.isdisjoint(args[3:]):
                    return commands.once()(self, *args, **options)
            elif name in _BLOCKING or "BLOCK" in args or b"BLOCK" in args:
                refuse_while_open(commands.integration, name)
                return super().execute_command(*args, **options)  # type: ignore[misc]  # of the client
        guard = commands.guards.get(name)
        return (guard if guard is not None else commands.made(name))(self, *args, **options)

    def pipeline(self, *args: Any, **options: Any) -> Any:
        made = super().pipeline(*args, **options)  # type: ignore[misc]  # of the client
        made.__class__ = self._commands.pipelines  # whatever its constructor is told from one release to the next
        return made


class _GuardedPipeline:
    _execute_guarded: Any
    _immediately_guarded: Any

    def execute(self, *args: Any, **options: Any) -> Any:
        return self._execute_guarded(*args, **options)

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        return self._immediately_guarded(*args, **options)


class _Bounded:
    """A sync connection that is given no more time than there is."""

    socket_connect_timeout: float | None

    def _connect(self) -> Any:
        limit, left = self.socket_connect_timeout, remaining()
        if left is None or (limit is not None and limit <= left):
            return _Socket(super()._connect())  # type: ignore[misc]  # of the client
        if left <= 0:
            raise TimeoutError("no time is left to connect")
        self.socket_connect_timeout = left
        try:
            return _Socket(super()._connect())  # type: ignore[misc]  # of the client
        finally:
            self.socket_connect_timeout = limit


class _Socket:
    """A socket each of whose waits gets what is left, so that the pieces of an answer cannot add up to more."""

    __slots__ = ("_limit", "_socket", "_tight")

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._limit: float | None = socket.gettimeout()
        self._tight = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, seconds: float | None) -> None:
        self._limit, self._tight = seconds, False
        self._socket.settimeout(seconds)

    def gettimeout(self) -> float | None:
        return self._limit

    def _tighten(self) -> None:
        left, limit = remaining(), self._limit
        if left is not None and (limit is None or left < limit):
            if left <= 0:
                raise TimeoutError("timed out")
            self._tight = True
            self._socket.settimeout(left)
        elif self._tight:
            self._tight = False
            self._socket.settimeout(limit)

    def recv(self, *args: Any) -> Any:
        self._tighten()
        return self._socket.recv(*args)

    def recv_into(self, *args: Any) -> Any:
        self._tighten()
        return self._socket.recv_into(*args)

    def sendall(self, *args: Any) -> Any:
        self._tighten()
        return self._socket.sendall(*args)
