"""Start cheroot with several processes on one port: it has no command that does."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any


def main() -> int:
    """Serve until a signal ends it; arguments: port, processes, threads."""
    port, processes, threads = (int(text) for text in sys.argv[1:])
    children = [pid for _ in range(processes) if (pid := _fork(port, threads))]

    def forward(number: int, _frame: FrameType | None) -> None:
        for pid in children:
            os.kill(pid, number)

    signal.signal(signal.SIGTERM, forward)
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children)


def _fork(port: int, threads: int) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(_serve(port, threads))
    return pid


def _serve(port: int, threads: int) -> int:
    from cheroot.wsgi import Server  # noqa: PLC0415  # after the fork, as the application

    from benchmarks.servers.application import application  # noqa: PLC0415

    server: Any = Server(
        ("127.0.0.1", port), application, numthreads=threads, timeout=600, shutdown_timeout=30, reuse_port=True
    )
    stopper = threading.Thread(target=server.stop)
    signal.signal(signal.SIGTERM, lambda *_: stopper.start())
    server.start()
    stopper.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
