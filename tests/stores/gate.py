"""
A gate before a server: closed, nothing listens and all connections are cut; held, nothing passes.

usage: python gate.py PORT SERVER_PORT

It reads "close", "open", "hold" or "release" from its input, one a line, and prints the word when it is done.
The server goes on meanwhile, as a real store does while the way to it is broken: what it has begun, it keeps.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress

PIECE_BYTES = 256 * 2**10


class Gate:
    """
    Passes connections on to a port of this machine.

    :param port: where clients come.
    :param server_port: where the server listens.
    """

    def __init__(self, port: int, server_port: int) -> None:
        self.port = port
        self.server_port = server_port
        self.writers: set[asyncio.StreamWriter] = set()
        self.passing = asyncio.Event()
        self.passing.set()
        self.listener: asyncio.Server | None = None

    async def open(self) -> None:
        """Let clients in."""
        self.listener = await asyncio.start_server(self.serve, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Stop listening, and cut what is connected."""
        assert self.listener is not None
        self.listener.close()
        for writer in list(self.writers):
            writer.transport.abort()

    async def hold(self) -> None:
        """Keep connections, and be silent."""
        self.passing.clear()

    async def release(self) -> None:
        """Pass on what was held."""
        self.passing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on both directions of one connection."""
        with suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.server_port)
            both = {writer, server_writer}
            self.writers |= both
            try:
                directions = (self.pass_on(reader, server_writer), self.pass_on(server_reader, writer))
                await asyncio.gather(*directions)
            finally:
                self.writers -= both
                server_writer.close()
        writer.close()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one direction, until its end."""
        with suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                await self.passing.wait()
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
            return
        writer.transport.abort()


async def main(port: int, server_port: int) -> None:
    """Open the gate, and obey."""
    gate = Gate(port, server_port)
    await gate.open()
    print("open", flush=True)
    words = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(words), sys.stdin.buffer
    )
    while word := (await words.readline()).decode().strip():
        await getattr(gate, word)()
        print(word, flush=True)


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
