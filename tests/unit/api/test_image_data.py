"""Image data under servers that do less than ours."""

from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

import casimg
from casimg_api.app import make_app
from casimg_api.config import Config


@pytest.mark.parametrize(("terminated", "status"), [(True, "404"), (False, "501")])
def test_a_chunked_body_that_the_server_does_not_end(tmp_path: Path, terminated: bool, status: str) -> None:
    """Chunks that a server leaves to the application would read as no bytes at all: refused, not stored as empty."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ |= {
        "REQUEST_METHOD": "PUT",
        "PATH_INFO": "/v2/images/7f0c3c2e-0000-4000-8000-000000000001/file",
        "CONTENT_TYPE": "application/octet-stream",
        "HTTP_TRANSFER_ENCODING": "chunked",
        "wsgi.input_terminated": terminated,
    }
    statuses: list[str] = []
    with casimg.create(tmp_path / "repository") as repo:
        app = make_app(repo, Config())
        answer: Any = app(environ, lambda line, headers, exc_info=None: statuses.append(line))  # type: ignore[arg-type]
        list(answer)
        answer.close()
    assert statuses[0].startswith(status)
