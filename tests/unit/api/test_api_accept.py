"""The type of an error's body follows the Accept header exactly as webob chooses it, which Glance is built on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webob.acceptparse import create_accept_header
from webob.exc import HTTPForbidden, HTTPMethodNotAllowed, HTTPNotFound

from casimg_api.accept import HTML, JSON, PLAIN, error_type
from casimg_api.errors import HttpError, error_body

RANGES = ("*/*", "text/html", "application/json", "text/*", "application/*", "text/plain", "TEXT/HTML", "*/json")
PARAMETERS = ("", ";q=0", ";q=0.5", ";q=1", "; q=0.300", ";level=1", ";level=1;q=0.9", ";q=2", ";q=0.5;x=y")


def webob_type(accept: str) -> str:
    """Return what webob's exceptions choose."""
    offers = create_accept_header(accept).acceptable_offers(offers=["text/html", "application/json"])
    return str(offers[0][0]) if offers else PLAIN


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", HTML),
        ("application/json", JSON),
        ("", PLAIN),
        ("text/plain", PLAIN),
        ("application/json, text/plain, */*", HTML),
        ("application/json;q=0.9, */*;q=0.1", JSON),
        ("text/html;q=0, */*", JSON),
        ("nonsense", HTML),
    ],
)
def test_known_headers(accept: str, expected: str) -> None:
    """Headers that real clients send get the type that they get from Glance."""
    assert error_type(accept) == expected == webob_type(accept)


@given(
    st.lists(st.tuples(st.sampled_from(RANGES), st.sampled_from(PARAMETERS)), max_size=4), st.sampled_from((", ", ","))
)
def test_same_as_webob(parts: list[tuple[str, str]], separator: str) -> None:
    """For any list of media ranges the choice is webob's."""
    accept = separator.join(main + parameters for main, parameters in parts)
    assert error_type(accept) == webob_type(accept)


@given(st.text(alphabet=' ,;/*q=.01tex"\\html', max_size=20))
def test_same_as_webob_for_junk(accept: str) -> None:
    """For junk too, and it never fails."""
    assert error_type(accept) == webob_type(accept)


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
@pytest.mark.parametrize("words", ["No image found with ID a", '<b>"it\'s" & more</b>', "Äöü"])
def test_bodies_are_those_of_webob(accept: str, words: str) -> None:
    """Status line, content type and bytes of an error are what webob sends for the same words."""
    for status, kind in ((404, HTTPNotFound), (403, HTTPForbidden)):
        sent: list[object] = []
        environ = {"HTTP_ACCEPT": accept, "REQUEST_METHOD": "GET"}
        body = b"".join(kind(explanation=words)(environ, lambda line, headers, sent=sent: sent.extend((line, headers))))
        made = error_body(HttpError(status, words), accept, "GET")
        assert (made.status_line, made.data) == (sent[0], body)
        assert ("Content-Type", made.content_type) in sent[1]  # type: ignore[operator]


def test_method_not_allowed_as_webob() -> None:
    """405 names the method, escaped."""
    for accept in ("*/*", "application/json", ""):
        environ = {"HTTP_ACCEPT": accept, "REQUEST_METHOD": "P<T"}
        body = b"".join(HTTPMethodNotAllowed()(environ, lambda *_: None))
        assert error_body(HttpError(405, ""), accept, "P<T").data == body
