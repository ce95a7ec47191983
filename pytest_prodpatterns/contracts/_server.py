"""`ServerContract`: every packaged server scenario as a test of the user's own server."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from pytest_prodpatterns.contracts._verdicts import tell
from pytest_prodpatterns.scenarios import run_scenario
from pytest_prodpatterns.scenarios._catalogue import packaged
from pytest_prodpatterns.targets import TargetError, from_instances
from pytest_prodpatterns.targets.server._protocol import ServerCommand

if TYPE_CHECKING:
    import os

    from pytest_prodpatterns.lab import ChaosLab
    from pytest_prodpatterns.targets import Target

SCENARIOS = [name for name in packaged() if name.startswith("server/")]
KNOWN: Final = tuple(
    field.name for field in dataclasses.fields(ServerCommand) if field.name not in {"argv", "name"}
)
"""What a class may say of its server: the fields of `ServerCommand`."""


class ServerContract:
    """Run each packaged server scenario against the server that `command` starts.

    Subclass it in a test module, with a name that pytest collects, and write `command`. Say by class attributes what
    is known of the server: a scenario that needs a slow path, say, is skipped while you name none. Each test starts
    the server anew, on a port of its own, and leaves nothing of it behind.

    A scenario that does not apply is skipped with the reason; one that deviates fails with the evidence, the
    broken promise, the timeline, and the command that runs it again.

    Attributes:
        ready: How it is known to be up: `port`, a path such as `/ready`, `log:TEXT`, or `notify`.
        start_within: Seconds that it may take until then.
        readiness: The path that says whether traffic is welcome.
        path: A path that answers quickly.
        slow_path: A path that takes a while; `{seconds}` in it is filled in.
        stream_path: A path whose body comes little by little, and ends; `{seconds}` may stand in it.
        sse_path: A path with an endless event stream.
        websocket_path: A path that is a websocket.
        json_path: A path that takes JSON by POST.
        error_path: A path whose handler raises.
        drain: Seconds that it may drain at most.
        lame_duck: Seconds that it serves on after the signal.
        limit: How many requests it takes at once.
        header_timeout: Seconds that a client may take for its headers.
        workers: Whether it has worker processes.
        grace: Seconds that the orchestrator waits until it kills.
        env: Variables for it, besides those of this process.
        cwd: Where it runs.
    """

    ready: ClassVar[str] = "port"
    start_within: ClassVar[float] = 20.0
    readiness: ClassVar[str | None] = None
    path: ClassVar[str] = "/"
    slow_path: ClassVar[str | None] = None
    stream_path: ClassVar[str | None] = None
    sse_path: ClassVar[str | None] = None
    websocket_path: ClassVar[str | None] = None
    json_path: ClassVar[str | None] = None
    error_path: ClassVar[str | None] = None
    drain: ClassVar[float | None] = None
    lame_duck: ClassVar[float | None] = None
    limit: ClassVar[int | None] = None
    header_timeout: ClassVar[float | None] = None
    workers: ClassVar[bool] = False
    grace: ClassVar[float] = 30.0
    env: ClassVar[Mapping[str, str]] = {}
    cwd: ClassVar[str | os.PathLike[str] | None] = None

    def command(self) -> Sequence[str | os.PathLike[str]] | ServerCommand:
        """Return the words of the command, with `{port}` or `{uds}` where it is to listen; it also gets PORT.

        A `shutdown.ServerCommand` will do as well; then nothing else is asked of the class.
        """
        raise NotImplementedError

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_scenario(self, scenario: str, chaos: ChaosLab) -> None:
        """Hold what the scenario promises."""
        tell(chaos, run_scenario(scenario, target=_target(self), seed=chaos.seed))


def _target(contract: ServerContract) -> Target:
    """Return the target of a contract, or fail with what is wrong about it."""
    name = type(contract).__name__
    if type(contract).command is ServerContract.command:
        pytest.fail(
            f"{name} has to define command(self), which returns the words of a command", pytrace=False
        )
    try:
        return from_instances("server", _command(contract), name=name)
    except (TypeError, ValueError, TargetError) as error:
        reason = f"{name}: {error}"
    pytest.fail(reason, pytrace=False)  # here, so that no traceback of the error comes with it


def _command(contract: ServerContract) -> ServerCommand:
    from pytest_prodpatterns.targets.server import _spec  # noqa: PLC0415
    from pytest_prodpatterns.targets.server._shutdown_checks import command_of, words_of  # noqa: PLC0415

    command = contract.command()
    if isinstance(command, ServerCommand):
        return command
    if command is None:
        raise TypeError("command() returned None; is a `return` missing?")
    known: dict[str, Any] = {field: getattr(contract, field) for field in KNOWN}
    places = {place: known.pop(place) for place in ("env", "cwd")}
    # a command may stand in `cwd`, where the spec does not look for it
    made = _spec.make([sys.executable], {field: value for field, value in known.items() if value is not None})
    made = dataclasses.replace(made, argv=words_of(command))
    return command_of(made, {place: value for place, value in places.items() if value is not None})
