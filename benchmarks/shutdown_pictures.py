"""Stop two servers under the same load, and draw what became of it: `python -m benchmarks.shutdown_pictures`."""

from __future__ import annotations

from pathlib import Path

from pytest_prodpatterns.lab import ChaosLab
from pytest_prodpatterns.report import shutdown_picture
from pytest_prodpatterns.targets import resolve
from pytest_prodpatterns.targets.server import Request, ServerDriver

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = {
    "gunicorn-gthread": "gunicorn with threads, told to drain for 2 s",
    "ours": "ProductionServer, told to serve on for 1.2 s and to drain for 2 s",
}
SLOW = "/slow?seconds={seconds}"


def picture(name: str, title: str) -> str:
    """Return the picture of one server's end."""
    target = resolve("server", name)
    with ChaosLab(seed=1, test=name) as lab, ServerDriver(target.command) as driver:
        driver.start()
        driver.watch(readiness=target.command.readiness)
        driver.send(Request(path=SLOW, seconds=1.5), "1.5 s in the handler", 8)
        driver.send(Request(path=SLOW, seconds=9.0), "9 s in the handler", 2)
        driver.send(Request(kind="idle", path="/health"), "idle keep-alive", 3)
        driver.send(Request(kind="silent"), "nothing sent", 1)
        driver.send(Request(kind="half-headers"), "half a head", 1)
        for phase in (
            "1.5 s in the handler",
            "9 s in the handler",
            "idle keep-alive",
            "nothing sent",
            "half a head",
        ):
            driver.await_inside(phase)
        driver.signal("SIGTERM")
        driver.route(2.0, "new connections", every=0.02)
        driver.await_exit(10)
        driver.await_listener_closed(1)
        driver.finish(1)
        return shutdown_picture(lab.timeline, title)


def main() -> None:
    """Write the pictures."""
    for name, title in PICTURES.items():
        path = DOCS / f"shutdown-{name}.svg"
        path.write_text(picture(name, title), encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
