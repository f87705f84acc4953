"""A websockets server for tests, a process of its own: a long quote for whoever subscribes, or a refusal by the path.

quotes_server.py PORT
"""

from __future__ import annotations

import asyncio
import http
import sys
from typing import Any

from websockets.asyncio.server import ServerConnection, serve


def refuse(connection: ServerConnection, request: Any) -> Any:
    path = request.path[1:]
    if not path.isdigit():
        return None
    response = connection.respond(http.HTTPStatus(int(path)), "no\n")
    if path == "429":
        response.headers["Retry-After"] = "7"
    return response


async def quote(connection: ServerConnection) -> None:
    async for message in connection:
        if message == "quote":
            await connection.send("x" * 20_000)


async def main(port: int) -> None:
    async with serve(quote, "127.0.0.1", port, process_request=refuse, compression=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
