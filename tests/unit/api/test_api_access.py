"""The access log: one line for every request, with nothing of a client's that could pose as another line."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from casimg_api.access import AccessLog
from casimg_api.context import CALLER_KEY, REQUEST_ID_KEY, Caller


class Parts:
    """An answer in two parts that knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield b"ab"
        yield b"cde"

    def close(self) -> None:
        self.closed = True


def log_line(caplog: pytest.LogCaptureFixture, path: str, *, read_count: int = 2) -> str:
    """Return the line that a request is logged with when so many parts of the answer are read."""
    parts = Parts()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ[CALLER_KEY] = Caller("a project", "u", ())
        environ[REQUEST_ID_KEY] = "req-1"
        environ["PATH_INFO"] = "/changed"
        start_response("200 OK", [])
        return parts

    with caplog.at_level(logging.INFO, "casimg_api.access"):
        answer = AccessLog(app)({"REQUEST_METHOD": "GET", "PATH_INFO": path}, lambda *_: None)  # type: ignore[arg-type]
        for number, _part in enumerate(answer, start=1):
            if number > read_count:
                break
        answer.close()  # type: ignore[attr-defined]
    assert parts.closed
    (record,) = caplog.records
    return record.getMessage().rpartition(" ")[0]


def test_a_request(caplog: pytest.LogCaptureFixture) -> None:
    """Id, method, path as it came, status, caller, bytes, end."""
    assert log_line(caplog, "/v2/images/\xc3\xbc") == (
        "request.done request_id=req-1 method=GET path=/v2/images/%C3%BC status=200 project=a%20project user=u "
        "sent=5 end=whole"
    )


def test_a_client_that_goes(caplog: pytest.LogCaptureFixture) -> None:
    """What was not sent is not counted."""
    assert "sent=2 end=cut" in log_line(caplog, "/", read_count=1)


def test_nothing_poses_as_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """Line ends and spaces of a path are escaped, and long paths cut."""
    line = log_line(caplog, "/a\nrequest.done status=200 " + "x" * 10_000)
    assert "\n" not in line
    assert "path=/a%0Arequest.done%20status" in line
    assert len(line) < 1000
