"""The benchmark of WSGI servers: its commands, its rows, its client."""

import socket
from dataclasses import replace
from pathlib import Path

from benchmarks.servers.__main__ import Rows
from benchmarks.servers.candidates import CANDIDATES
from benchmarks.servers.client import BLOCK_SIZE, disk_blocks, random_blocks, send_block, status_of


def test_every_candidate_is_told_port_and_sizes() -> None:
    """Each listens on the port it is given, with as many threads; none is left at its default."""
    for one in CANDIDATES:
        command = " ".join(one.command(12345, 2, 64))
        assert "12345" in command
        assert "64" in command


def test_a_candidate_that_is_not_installed_has_no_version() -> None:
    """What is not there is seen before anything is measured."""
    assert replace(CANDIDATES[0], package="no-such-distribution").version is None
    assert CANDIDATES[0].version is not None


def test_rows_hold_medians_and_failures(tmp_path: Path) -> None:
    """Numbers of rounds become their median; a trial that fails is named in the row of its candidate."""
    one = CANDIDATES[0]
    rows = Rows(tmp_path, [one])
    for value in (1.0, 9.0, 2.0):
        rows._found[one.name]["get_s"].append(value)
    rows._found[one.name]["cut_status"].append("queued")
    rows.failed[f"{one.name}: many"] = "why"
    (row,) = rows.rows()
    assert (row["get_s"], row["cut_status"], row["failed"]) == (2.0, "queued", [f"{one.name}: many"])


def test_blocks_are_the_same_for_a_seed() -> None:
    """What is sent is made from its seed: rounds send the same, and images of other seeds share nothing."""
    assert disk_blocks(2 * BLOCK_SIZE, 1) == disk_blocks(2 * BLOCK_SIZE, 1)
    assert not set(disk_blocks(2 * BLOCK_SIZE, 1)) & set(disk_blocks(2 * BLOCK_SIZE, 2))
    assert [len(block) for block in random_blocks(2 * BLOCK_SIZE, 1)] == [BLOCK_SIZE, BLOCK_SIZE]


def test_the_client_frames_what_it_sends() -> None:
    """A chunk has its size before it and an end after it; an answer is read to its end."""
    near, far = socket.socketpair()
    with near, far:
        send_block(near, b"12345", chunked=True)
        send_block(near, b"6", chunked=False)
        assert far.recv(100) == b"5\r\n12345\r\n6"
        far.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        far.shutdown(socket.SHUT_WR)
        assert status_of(near) == 204
