"""`RunningServer`: a server that runs, as users see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_prodpatterns.targets.server._errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_prodpatterns.targets.server._address import Address
    from pytest_prodpatterns.targets.server._driver import ServerDriver

__tracebackhide__ = True  # pytest shows the line of the user; --full-trace shows ours, too


class RunningServer:
    """A running command; whatever strikes processes takes it as a target.

    Args:
        driver: What drives it.
    """

    __module__ = "pytest_prodpatterns.targets.server.shutdown"

    def __init__(self, driver: ServerDriver) -> None:
        self._driver = driver

    @property
    def pid(self) -> int:
        """The process id of the command itself, not of its workers."""
        return self._driver.pid

    @property
    def address(self) -> Address:
        """Its port, or the path of its unix socket."""
        return self._driver.address

    @property
    def port(self) -> int:
        """Its port on loopback.

        Raises:
            AttributeError: It listens on a unix socket.
        """
        if isinstance(self.address, int):
            return self.address
        raise AttributeError(f"this server has no port: it listens on the unix socket {self.address}")

    @property
    def url(self) -> str:
        """Where it can be reached."""
        address = self.address
        return f"http://127.0.0.1:{address}" if isinstance(address, int) else f"http+unix://{address}"

    @property
    def alive(self) -> bool:
        """Whether its process lives."""
        return self._driver.alive

    @property
    def exit_code(self) -> int | None:
        """Its exit code, minus the signal's number if one killed it; None while it lives."""
        return None if self._driver.exit is None else int(self._driver.exit["code"])

    def await_exit(self, within: float = 10.0) -> int | None:
        """Wait until it has ended, and return its exit code; None when it still lives then.

        Args:
            within: Seconds to wait.
        """
        return self._driver.await_exit(within)

    def output_tail(self, size: int = 4000) -> str:
        """Return the end of what it printed, standard output and error.

        Args:
            size: How many bytes.
        """
        return self._driver.output_tail(size)

    def __repr__(self) -> str:
        state = "alive" if self.alive else f"ended with {self.exit_code}"
        return f"<RunningServer {self._driver.command.name}: pid {self.pid}, {self.url}, {state}>"


def start(
    driver: ServerDriver,
    sign: Callable[[RunningServer], bool] | None,
    started: Callable[[int], None] = lambda _: None,
) -> RunningServer:
    """Start a server, wait until it is up, and return it; errors have no line of ours.

    Args:
        driver: What drives it.
        sign: Whether it is up; None for what its command says.
        started: Gets its pid before anything is waited for.

    Raises:
        ServerError: It does not come up.
    """
    server = RunningServer(driver)
    try:
        driver.start(await_ready=False)
        started(driver.pid)
        if sign is None:
            driver.await_ready()
        else:
            name = getattr(sign, "__qualname__", None)
            driver.await_ready(lambda: bool(sign(server)), f"a yes from {name}()" if name else str(sign))
    except ServerError as error:
        raise error.with_traceback(None) from None
    return server
