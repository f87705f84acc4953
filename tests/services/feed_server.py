"""A websockets server that counts, for tests, run as a process of its own: one number every few milliseconds to all.

The number goes on over restarts by way of a file, as a real feed's does: what nobody was connected for is missed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from websockets.asyncio.server import ServerConnection, broadcast, serve

EVERY = 0.01
WHILE_DOWN = 10
"""Numbers that go by while the server is down."""


async def main(port: int, home: Path) -> None:
    kept = home / "number"
    number = int(kept.read_text()) + WHILE_DOWN if kept.exists() else 0

    async def listen(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(listen, "127.0.0.1", port) as server:
        while True:
            number += 1
            kept.with_suffix(".new").write_text(str(number))
            kept.with_suffix(".new").replace(kept)
            broadcast(server.connections, json.dumps({"symbol": "A", "seq": number}))
            await asyncio.sleep(EVERY)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
