"""What is asked of a server, one function each: speeds, memory, and whether it does what an image service needs."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from benchmarks.measure import TreeWatch
from benchmarks.servers.candidates import Running
from benchmarks.servers.client import (
    BLOCK_SIZE,
    Client,
    disk_blocks,
    random_blocks,
    send_block,
    status_of,
)

_ANSWER_TIME_S: Final = 20.0


def speeds(server: Running, blocks: list[bytes], fresh: list[bytes]) -> dict[str, float | None]:
    """Return seconds of one round: the bare application and the service, up and down; None for what does not work.

    Args:
        blocks: what most is measured with.
        fresh: as much that no image has yet.
    """
    client = Client(server.port)
    size = sum(len(block) for block in blocks)
    chunked, sized = (f"/v2/images/{client.create()}/file" for _ in range(2))
    calls: dict[str, tuple[Callable[[], int], int]] = {
        "bare_put_s": (lambda: client.put("/bare/sink", blocks, size), 200),
        "bare_put_chunked_s": (lambda: client.put("/bare/sink", blocks, None), 200),
        "bare_get_s": (lambda: client.get(f"/bare/source?{size}"), size),
        "put_chunked_s": (lambda: client.put(chunked, fresh, None), 204),
        "put_again_s": (lambda: client.put(sized, fresh, size), 204),
        "get_s": (lambda: client.get(sized), size),
    }
    return {name: _seconds(call, wanted) for name, (call, wanted) in calls.items()}


def _seconds(call: Callable[[], int], wanted: int) -> float | None:
    begin_s = time.monotonic()
    try:
        found = call()
    except OSError:
        return None
    return time.monotonic() - begin_s if found == wanted else None


def ahead(server: Running) -> dict[str, int]:
    """Return how many bytes a server takes from a client whose body nobody reads, and from an application whose answer
    nobody reads: what is more than the buffers of sockets is kept in memory or in files."""
    client = Client(server.port)
    sent = 0
    block = bytes(BLOCK_SIZE)
    with client.begin_put("/bare/sink?5", 1 << 40, time_max_s=1.5) as connection, contextlib.suppress(TimeoutError):
        while sent < 256 << 20:
            sent += connection.send(block)
    with client.begin_get(f"/bare/source?{1 << 30}"):
        time.sleep(1.5)
        handed = int(client.text("/bare/handed"))
    time.sleep(4)
    return {"ahead_put_size": sent, "ahead_get_size": handed}


def one_chunk(server: Running, size: int) -> dict[str, int]:
    """Return how much anonymous memory one huge chunk of a chunked body costs: clients choose how large chunks are."""
    client = Client(server.port)
    block = bytes(BLOCK_SIZE)
    before = TreeWatch(server.process.pid)
    before.sample()
    watch = TreeWatch(server.process.pid)
    watch.start()
    with client.begin_put("/bare/sink", None) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"%x\r\n" % size)
        for _ in range(size // BLOCK_SIZE):
            connection.sendall(block)
        connection.sendall(b"\r\n0\r\n\r\n")
        status_of(connection)
    return {"one_chunk_growth": watch.stop() - before.peak}


def cut(server: Running) -> dict[str, str]:
    """Return the status of images whose upload was cut in the middle: anything but queued is data loss."""
    client = Client(server.port)
    found = {}
    for name, size in (("cut_status", 64 << 20), ("cut_chunked_status", None)):
        image_id = client.create()
        with client.begin_put(f"/v2/images/{image_id}/file", size) as connection:
            for block in disk_blocks(8 << 20, 5):
                send_block(connection, block, chunked=size is None)
        found[name] = _settled(client, image_id)
    return found


def _settled(client: Client, image_id: str) -> str:
    give_up_s = time.monotonic() + _ANSWER_TIME_S
    status = "saving"
    while status == "saving" and time.monotonic() < give_up_s:
        time.sleep(0.2)
        status = str(client.show(image_id)["status"])
    return status


def many(server: Running, count: int, size: int) -> dict[str, Any]:
    """Upload many images at once, chunked, of bytes that do not repeat; the memory is that of all processes."""
    client = Client(server.port)
    statuses: list[int] = []

    def upload(number: int) -> None:
        try:
            image_id = client.create()
            statuses.append(client.put(f"/v2/images/{image_id}/file", random_blocks(size, number), None))
        except OSError:
            statuses.append(0)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(count)]
    watch = TreeWatch(server.process.pid)
    watch.start()
    begin_s = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.monotonic() - begin_s
    return {
        "many_count": count,
        "many_failed_count": count - statuses.count(204),
        "many_s": round(wall_s, 3),
        "many_rss_anon_peak": watch.stop(),
    }


def several(server: Running, count: int = 12) -> dict[str, Any]:
    """Upload and read back through several processes on one repository; returns how many came back right."""
    client = Client(server.port)
    right = 0
    for number in range(count):
        blocks = disk_blocks(2 << 20, 1000 + number)
        path = f"/v2/images/{client.create()}/file"
        right += client.put(path, blocks, None) == 204 and client.get(path) == sum(len(block) for block in blocks)
    return {"two_processes_right_count": right, "two_processes_count": count}


def stopping(server: Running) -> dict[str, Any]:
    """Tell a server to stop in the middle of an upload that goes on for two seconds, and what became of it."""
    client = Client(server.port)
    blocks = disk_blocks(8 << 20, 77)
    stop_s: list[float] = []

    def stop() -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            stop_s.append(server.stop())

    thread = threading.Thread(target=stop)
    status = 0
    with client.begin_put(f"/v2/images/{client.create()}/file", None) as connection, contextlib.suppress(OSError):
        for number, block in enumerate(blocks):
            send_block(connection, block, chunked=True)
            if number == 1:
                thread.start()
            time.sleep(0.25)
        connection.sendall(b"0\r\n\r\n")
        status = status_of(connection)
    thread.join()
    return {"stop_upload_status": status, "stop_s": round(stop_s[0], 3) if stop_s else None}


__all__ = ["ahead", "cut", "many", "one_chunk", "several", "speeds", "stopping"]
