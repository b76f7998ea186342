"""What a connection may take of time, with a clock that the test turns."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest
import uvicorn
from uvicorn.server import ServerState

from icehouse_server.cli.bounded_protocol import BoundedProtocol
from icehouse_server.core.limits import ConnectionLimits

PARTS, PART = 50, 60_000


async def app(_scope, _receive, send):
    """An answer in parts that does not say how long it is."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(PARTS):
        await send({"type": "http.response.body", "body": bytes(PART), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def connected():
    """A connection and the client's end of it; both ends hold little."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    config = uvicorn.Config(app, lifespan="off", access_log=False)
    config.load()
    limits = ConnectionLimits(connections=4, receive_timeout=30.0, send_timeout=30.0)
    loop = asyncio.get_running_loop()

    def protocol():
        return BoundedProtocol(config=config, server_state=ServerState(), app_state={}, limits=limits)

    transport, connection = await loop.connect_accepted_socket(protocol, ours)
    await loop.sock_sendall(theirs, b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
    try:
        yield connection, theirs
    finally:
        if not transport.is_closing():
            transport.abort()
        theirs.close()
        await asyncio.sleep(0)


async def read(client, size):
    """Read N bytes, or to the end."""
    loop, got = asyncio.get_running_loop(), 0
    while got < size and (piece := await asyncio.wait_for(loop.sock_recv(client, size - got), 30)):
        got += len(piece)
    return got


@pytest.mark.parametrize("parts", [1, 20, PARTS])
async def test_a_slow_reader_of_parts_is_served_while_it_reads(parts):
    """60 kB a second are twice what a client must read; one that stops is not waited for."""
    async with connected() as (connection, client):
        now, got = 0.0, await read(client, 1)
        for _ in range(parts):
            connection.look(now)
            assert not connection.transport.is_closing()
            got += await read(client, PART)
            now += 1
        if parts == PARTS:
            assert PARTS * PART < got + await read(client, 10**9) < PARTS * (PART + 100)
            return
        while not connection.transport.is_closing():
            connection.look(now)
            now += 1
        assert parts + 30 <= now <= parts * 3 + 35
