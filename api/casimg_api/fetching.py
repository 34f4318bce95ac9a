"""Fetching a URL for others: every hop is checked, and asked at an address that was checked.

Out come the bytes of an answer as they are sent; nothing is kept, no environment, proxy or cookie takes part. What goes
wrong is told by names of hosts alone.
"""

import contextlib
import logging
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError as TransportError

from casimg_api.fetch_rules import FetchRefusedError, FetchRules, Place

_log = logging.getLogger("casimg_api.fetching")

HOP_COUNT_MAX: Final = 5
_NO_HEAD: Final = frozenset({400, 403, 405, 501})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE: Final = re.compile(r"\s*bytes\s+([0-9]{1,18})-([0-9]{1,18})/(?:([0-9]{1,18})|\*)\s*", re.IGNORECASE)
_HEADERS: Final = {"User-Agent": "casimg", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}


class FetchError(Exception):
    """A URL that may be fetched could not be."""


class NoRangesError(FetchError):
    """A web server gives all or nothing."""


class Body:
    """The body of an answer. Threads: one."""

    def __init__(self, response: urllib3.BaseHTTPResponse, length: int | None, total: int | None = None) -> None:
        self._response = response
        self.length = length
        """Bytes that are announced; None when nobody knows."""
        self.total = total
        """Of a range, bytes of the whole; None when nobody says."""

    def read(self, size: int) -> bytes:
        """Return what has come, up to `size` bytes; none at the end. Raises: FetchError when it is cut."""
        try:
            return self._response.read1(size)
        except (TransportError, OSError, ValueError) as error:
            raise FetchError(f"the data were cut: {_kind(error)}") from None


class Fetcher:
    """Fetches by rules. Threads: any.

    Args:
        connect_timeout_s, read_timeout_s: until a host is reached, and between two signs of life.
    """

    def __init__(self, rules: FetchRules, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._rules = rules
        self._timeout = urllib3.Timeout(connect=connect_timeout_s, read=read_timeout_s)
        self._lock = threading.Lock()
        self._under_way: set[urllib3.BaseHTTPResponse] = set()
        self._has_stopped = False

    def stop(self) -> None:
        """Cut the bodies that others read, and begin no more; what they have by then is not the whole."""
        with self._lock:
            self._has_stopped = True
            for response in self._under_way:
                with contextlib.suppress(OSError, ValueError, RuntimeError):  # it has ended already
                    response.shutdown()

    @contextlib.contextmanager
    def _known(self, response: urllib3.BaseHTTPResponse) -> Iterator[None]:
        with self._lock:
            if self._has_stopped:
                raise FetchError("the server is stopped")
            self._under_way.add(response)
        try:
            yield
        finally:
            with self._lock:
                self._under_way.discard(response)

    @contextlib.contextmanager
    def open(
        self, url: str, secrets: Mapping[str, str] | None = None, *, span: tuple[int, int] | None = None
    ) -> Iterator[Body]:
        """Give the body of what is at a URL, after redirects.

        Args:
            secrets: headers for the host that the URL names, and for no other.
            span: of all bytes those from a start to an end, which is exclusive.
        Raises: FetchRefusedError, FetchError, NoRangesError for a span of a server that gives none.
        """
        headers = {} if span is None else {"Range": f"bytes={span[0]}-{span[1] - 1}"}
        with self._answered("GET", url, headers, secrets or {}) as (place, response):
            if span is not None and response.status == 200:
                raise NoRangesError(f"{place.host} gives no ranges")
            if response.status != (200 if span is None else 206):
                raise FetchError(f"{place.host} answered with status {response.status}")
            total = None
            if span is not None:
                match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
                if match is None or (int(match[1]), int(match[2]) + 1) != span:
                    raise FetchError(f"{place.host} answered with another range")
                total = None if match[3] is None else int(match[3])
            yield Body(response, _length(response), total)

    def size(self, url: str) -> int | None:
        """Return how many bytes are at a URL, as its server says; None when it does not.

        Raises: FetchRefusedError, FetchError.
        """
        # URLs that are signed are so for one method, and some servers know no other.
        for method in ("HEAD", "GET"):
            with self._answered(method, url, {}, {}) as (place, response):
                if response.status == 200:
                    return _length(response)
                if method == "GET" or response.status not in _NO_HEAD:
                    raise FetchError(f"{place.host} answered with status {response.status}")
        return None

    @contextlib.contextmanager
    def _answered(
        self, method: str, url: str, headers: Mapping[str, str], secrets: Mapping[str, str]
    ) -> Iterator[tuple[Place, urllib3.BaseHTTPResponse]]:
        """Give the answer that is no redirect, and who gave it."""
        first: Place | None = None
        for _ in range(HOP_COUNT_MAX + 1):
            place = self._rules.place(url)
            first = first or place
            is_first = (place.scheme, place.host, place.port) == (first.scheme, first.host, first.port)
            with contextlib.ExitStack() as stack:
                response = self._ask(method, place, stack, {**headers, **(secrets if is_first else {})})
                if response.status in _REDIRECTS:
                    url = _next(url, response)
                    continue
                with self._known(response):
                    yield place, response
                return
        raise FetchError(f"there are more than {HOP_COUNT_MAX} redirects")

    def _ask(
        self, method: str, place: Place, stack: contextlib.ExitStack, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        why = ""
        for address in self._rules.addresses(place):
            pool = self._pool(place, address)
            stack.callback(pool.close)
            try:
                response = pool.urlopen(
                    method,
                    place.target,
                    headers={"Host": place.host_header, **_HEADERS, **headers},
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                )
            except (TransportError, OSError, ValueError) as error:
                why = _kind(error)
                _log.info("fetch.failed host=%s address=%s why=%s", place.host, address, why)
                continue
            stack.callback(response.close)
            return response
        raise FetchError(f"{place.host} cannot be reached: {why}")

    def _pool(self, place: Place, address: str) -> urllib3.HTTPConnectionPool:
        """Return connections to an address, which show and check the name that was asked for."""
        if place.scheme == "http":
            return urllib3.HTTPConnectionPool(address, place.port, timeout=self._timeout, maxsize=1)
        return urllib3.HTTPSConnectionPool(
            address,
            place.port,
            timeout=self._timeout,
            maxsize=1,
            ssl_context=ssl.create_default_context(),
            server_hostname=place.host,
            assert_hostname=place.host,
        )


def _next(url: str, response: urllib3.BaseHTTPResponse) -> str:
    location = response.headers.get("Location")
    if not location:
        raise FetchError("a redirect says not where to")
    try:
        return urljoin(url, location)
    except ValueError:
        raise FetchRefusedError("a redirect names no URL") from None


def _length(response: urllib3.BaseHTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    if "Transfer-Encoding" in response.headers or not text.isascii() or not text.isdigit() or len(text) > 18:
        return None
    return int(text)


def _kind(error: Exception) -> str:
    """Return what went wrong in words that repeat no URL."""
    cause = error.__cause__ or error.__context__
    inner = cause if isinstance(cause, OSError) else error
    return f"{type(inner).__name__}" + (f" ({inner.strerror})" if isinstance(inner, OSError) and inner.strerror else "")
