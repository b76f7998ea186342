"""Sends as many bytes of a preallocated buffer as the path says. Prints its port."""

from __future__ import annotations

import socket
import sys

listener = socket.create_server(("127.0.0.1", 0))
sys.stdout.write(f"{listener.getsockname()[1]}\n")
sys.stdout.flush()
buffer = memoryview(bytearray(64 * 1024 * 1024))
while True:
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while request := connection.recv(65536):
        size = int(request.split(b" ", 2)[1][1:])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        connection.sendall(buffer[:size])
    connection.close()
