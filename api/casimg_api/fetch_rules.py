"""Which URLs may be fetched for others, and at which addresses: what a server does for its users must not reach what
only the server can reach.

A URL is taken apart here once, and nothing parses it again: whoever connects is told address, name, port and target.
Names are resolved once, and the connection goes to an address that was checked.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

from casimg_api.config import FilteringConfig

T = TypeVar("T")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Collection[str]]
"""Returns the addresses of a name, as texts. Raises: OSError."""

URL_COUNT_MAX: Final = 8192
SCHEMES: Final = {"http": 80, "https": 443}
"""What can be fetched at all, with the ports that need not be said."""

_ODD: Final = re.compile(r"[\x00-\x20\x7f\\]")
_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class FetchRefusedError(Exception):
    """A URL must not be fetched; says why without repeating it: URLs hold signatures and passwords."""


class UnknownHostError(FetchRefusedError):
    """A name has no address, now at least."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL points to.

    Attributes:
        host: a name in lower case, or an address in its usual form.
        target: path and query, as a request line has it.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == SCHEMES[self.scheme] else f"{host}:{self.port}"


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name. Raises: OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


class FetchRules:
    """The rules of a configuration. Threads: any."""

    def __init__(self, config: FilteringConfig, resolve: Resolve = resolve) -> None:
        self._schemes = _Lists(config.allowed_schemes, config.disallowed_schemes)
        self._hosts = _Lists(_hosts(config.allowed_hosts), _hosts(config.disallowed_hosts))
        self._ports = _Lists(config.allowed_ports, config.disallowed_ports)
        self._networks = [ipaddress.ip_network(network) for network in config.allowed_networks]
        self._resolve = resolve

    def place(self, url: str) -> Place:
        """Return where a URL points to, if that may be asked at all. Raises: FetchRefusedError."""
        place = parse(url)
        if not self._schemes.let(place.scheme):
            raise FetchRefusedError(f"the scheme {place.scheme} is not allowed")
        if not self._hosts.let(place.host):
            raise FetchRefusedError(f"the host {place.host} is not allowed")
        if not self._ports.let(place.port):
            raise FetchRefusedError(f"the port {place.port} is not allowed")
        return place

    def addresses(self, place: Place) -> list[str]:
        """Return the addresses at which a place may be asked, in the resolver's order.

        Raises: FetchRefusedError when it has none, UnknownHostError when its name has no address at all.
        """
        is_allowed_host = place.host in self._hosts.allowed
        try:
            texts = [str(ipaddress.ip_address(place.host))]
        except ValueError:
            texts = self._resolved(place)
        found = [text for text in texts if self._may_reach(text, is_allowed_host=is_allowed_host)]
        if not found:
            raise FetchRefusedError(f"the host {place.host} has no address that is allowed")
        return found

    def _resolved(self, place: Place) -> list[str]:
        try:
            texts = list(self._resolve(place.host, place.port))
        except (OSError, UnicodeError) as error:
            raise UnknownHostError(f"the host {place.host} is not known: {error}") from None
        if not texts:
            raise UnknownHostError(f"the host {place.host} is not known")
        return texts

    def _may_reach(self, text: str, *, is_allowed_host: bool) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        if is_allowed_host:
            return True
        meant = _meant_by(address)
        if any(str(one) in self._hosts.disallowed for one in meant):
            return False
        return all(_is_public(one) or self._is_in_allowed_network(one) for one in meant)

    def _is_in_allowed_network(self, address: Address) -> bool:
        return any(address in network for network in self._networks if network.version == address.version)


class _Lists(Generic[T]):
    """What is allowed and what is not; the second counts only without the first."""

    def __init__(self, allowed: Collection[T], disallowed: Collection[T]) -> None:
        self.allowed = frozenset(allowed)
        self.disallowed = frozenset() if self.allowed else frozenset(disallowed)

    def let(self, value: T) -> bool:
        return value in self.allowed if self.allowed else value not in self.disallowed


def parse(url: str) -> Place:
    """Take a URL apart. Raises: FetchRefusedError for anything that two programs could read differently."""
    if len(url) > URL_COUNT_MAX:
        raise FetchRefusedError(f"it has more than {URL_COUNT_MAX} characters")
    if _ODD.search(url):
        raise FetchRefusedError("it has blanks, backslashes or control characters in it")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise FetchRefusedError("it is no URL") from None
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        raise FetchRefusedError(f"only {' and '.join(SCHEMES)} can be fetched")
    if "@" in parts.netloc:
        raise FetchRefusedError("it has a user or a password in it")
    if not host:
        raise FetchRefusedError("it names no host")
    if port == 0:
        raise FetchRefusedError("the port 0 is not allowed")
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    return Place(scheme, _plain_host(host, is_bracketed="[" in parts.netloc), port or SCHEMES[scheme], target)


def _plain_host(host: str, *, is_bracketed: bool) -> str:
    """Return a host in the one form that is compared. Raises: FetchRefusedError for addresses that hide."""
    if "%" in host:
        raise FetchRefusedError("the host has % in it")
    if is_bracketed:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise FetchRefusedError("the host is no IPv6 address") from None
    try:
        name = host.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        raise FetchRefusedError("the host is no name") from None
    try:
        return str(ipaddress.IPv4Address(name))
    except ValueError:
        pass
    # 127.1, 0x7f000001, 2130706433: resolvers take them for addresses.
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise FetchRefusedError("the host is an address in an unusual form")
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise FetchRefusedError("the host is no name")
    return name


def _hosts(names: Collection[str]) -> list[str]:
    """Return hosts of a configuration as they are compared."""
    found = []
    for name in names:
        try:
            found.append(str(ipaddress.ip_address(name.strip("[]"))))
        except ValueError:
            found.append(name.lower().removesuffix("."))
    return found


def _meant_by(address: Address) -> list[Address]:
    """Return the addresses that are reached by one: IPv6 has several ways to write one of IPv4."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    if address.teredo is not None:
        return [address, *address.teredo]
    return [address]


def _is_public(address: Address) -> bool:
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
