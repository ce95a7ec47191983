"""What the kernel tells of a socket, whichever source it comes from."""

from __future__ import annotations

from typing import Final, NamedTuple

ESTABLISHED: Final = 1
CLOSE_WAIT: Final = 8
LISTEN: Final = 10
"""States of a socket, as the kernel numbers them."""

UNKNOWN: Final = -1
"""The limit of a listener whose source does not tell it, and of what does not listen."""

_MAPPED: Final = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
_LOOPBACK: Final = bytes(15) + b"\1"  # ::1


class TcpRow(NamedTuple):
    """A TCP socket.

    Attributes:
        address: The local address, packed.
        remote: The port at the other end.
        inode: Its inode; 0 where no process holds it.
        received: Bytes that wait to be read; for a listener, connections that wait to be accepted.
        limit: How many may wait there.
    """

    address: bytes
    remote: int
    inode: int
    received: int
    limit: int

    @property
    def loopback(self) -> bool:
        """Whether its address is one of loopback."""
        address = self.address.removeprefix(_MAPPED)
        return address[0] == 127 if len(address) == 4 else address == _LOOPBACK

    @property
    def anywhere(self) -> bool:
        """Whether it is bound to all addresses."""
        return not any(self.address.removeprefix(_MAPPED))


class UnixRow(NamedTuple):
    """A unix socket that listens.

    Attributes:
        inode: Its inode.
        received: Connections that wait to be accepted.
        limit: How many may wait there.
    """

    inode: int
    received: int
    limit: int
