"""
An SFTP server without OpenSSH's extensions: its rename refuses a name that is taken.

usage: python plain_sftp.py PORT HOST_KEY AUTHORIZED_KEYS
"""

from __future__ import annotations

import asyncio
import os
import sys

import asyncssh
from asyncssh import sftp

sftp.SFTPServerHandler._extensions = []


class PlainServer(asyncssh.SFTPServer):
    """Serves the files of the machine. Names are taken as they are."""

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename to a free name, as version 3 of the protocol says."""
        if os.path.lexists(self.map_path(newpath)):
            raise asyncssh.SFTPFailure("Failure")
        super().rename(oldpath, newpath)


async def main(port: int, host_key: str, authorized_keys: str) -> None:
    """Serve until the process is ended."""
    await asyncssh.listen(
        "127.0.0.1",
        port,
        server_host_keys=[host_key],
        authorized_client_keys=authorized_keys,
        sftp_factory=PlainServer,
    )
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
