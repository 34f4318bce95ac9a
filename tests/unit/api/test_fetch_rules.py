"""Which URLs may be fetched for others: every way around the rules that is known is closed."""

import pytest

from casimg_api.config import FilteringConfig
from casimg_api.fetch_rules import FetchRefusedError, FetchRules, Place, UnknownHostError, parse

PUBLIC = "93.184.216.34"
NAMES = {
    "public.example": [PUBLIC],
    "two.example": ["10.0.0.7", PUBLIC],
    "inner.example": ["10.0.0.7"],
    "self.example": ["127.0.0.1", "::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "link.example": ["169.254.169.254", "fe80::1%eth0"],
    "localhost": ["127.0.0.1"],
    "none.example": [],
}


def resolve(host: str, _port: int) -> list[str]:
    """Know NAMES alone."""
    if host not in NAMES:
        raise OSError("no such name")
    return NAMES[host]


def addresses(url: str, **config: tuple[object, ...]) -> list[str]:
    rules = FetchRules(FilteringConfig(**config), resolve)  # type: ignore[arg-type]
    return rules.addresses(rules.place(url))


def test_a_public_host_is_fetched_from() -> None:
    """Names and addresses that are public pass, with their scheme's port or one that is said."""
    assert addresses("http://public.example/a?b=c") == [PUBLIC]
    assert addresses("https://PUBLIC.example./a") == [PUBLIC]
    assert addresses(f"http://{PUBLIC}:80/") == [PUBLIC]
    assert addresses("https://[2606:2800:220:1::1]:443/x") == ["2606:2800:220:1::1"]
    assert addresses("http://public.example:8080/", allowed_ports=(8080,)) == [PUBLIC]


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.1.", "127.0.0.0x1", "0", "0.0.0.0"),
        *("10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"),
        *("[2002:7f00:1::]", "[fe80::1]", "[fe80::1%25eth0]", "[fd00::1]", "[ff02::1]"),
        *("[2001:0:7f00:1:0:0:80ff:fffe]",),
        *("localhost", "self.example", "inner.example", "mapped.example", "link.example", "none.example", "nowhere"),
        *("\u2460\u2461\u2467.0.0.1", "127\u30020.0.1", "%31%32%37.0.0.1", "0x7f.1", "127.0.1"),
    ],
)
def test_what_is_not_public_is_refused(host: str) -> None:
    """Loopback, private, link-local and other inner addresses are refused however they are written or named."""
    with pytest.raises(FetchRefusedError):
        addresses(f"http://{host}/x")


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "//public.example/", "http:", "http://", "http:///x", "http:/public.example/", "public.example/x"),
        *("ftp://public.example/", "file:///etc/passwd", "gopher://public.example/", "HTTP+unix://public.example/"),
        *("http://user@public.example/", "http://user:secret@public.example/", "http://@public.example/"),
        *("http://public.example:99999/", "http://public.example:x/", "http://public.example:0/"),
        *("http://public.example\\@127.0.0.1/", "http://public.example /", "http://public.example/\r\nHost: x"),
        *("http://public.example/a b", "http://public.example/\0", "http://[public.example]/", "http://[::1/"),
        *("http://a..b/", "http://-a.example/", f"http://{'a' * 64}.example/", f"http://public.example/{'x' * 9000}"),
        *("http://public.example:22/", "http://public.example:8080/"),
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    """Other schemes and ports, users, blanks, and whatever two programs could read differently are refused."""
    with pytest.raises(FetchRefusedError) as caught:
        addresses(url)
    assert "secret" not in str(caught.value)


def test_a_url_is_taken_apart_once() -> None:
    """Host, port and target are what a connection needs; the fragment stays here."""
    assert parse("HTTPS://A.example:8443/p%20q?x=1#frag") == Place("https", "a.example", 8443, "/p%20q?x=1")
    assert parse("http://b\u00fccher.example") == Place("http", "xn--bcher-kva.example", 80, "/")
    assert parse("http://[::FFFF:1.2.3.4]/").host == str(parse("http://[::ffff:102:304]/").host)
    assert parse("https://a.example:8443/").host_header == "a.example:8443"
    assert parse("http://[2606::1]:80/").host_header == "[2606::1]"


def test_lists_mean_what_they_mean_to_glance() -> None:
    """With a list of what is allowed that of what is not counts for nothing; hosts are compared in one form."""
    assert addresses("http://public.example/", allowed_hosts=("Public.Example",), disallowed_hosts=("public.example",))
    assert addresses("http://public.example:99/", allowed_ports=(), disallowed_ports=(98,))
    for config in (
        {"allowed_hosts": ("other.example",)},
        {"disallowed_hosts": ("PUBLIC.example.",)},
        {"disallowed_hosts": (PUBLIC,)},
        {"allowed_schemes": ("https",)},
        {"allowed_schemes": (), "disallowed_schemes": ("http",)},
        {"allowed_ports": (), "disallowed_ports": (80,)},
    ):
        with pytest.raises(FetchRefusedError):
            addresses("http://public.example/", **config)


def test_inner_hosts_are_fetched_from_when_the_operator_says_so() -> None:
    """An allowed host is allowed with all its addresses; an allowed network with whatever name leads into it."""
    assert addresses("http://localhost/", allowed_hosts=("localhost",)) == ["127.0.0.1"]
    assert addresses("http://[::1]/", allowed_hosts=("::1",)) == ["::1"]
    with pytest.raises(FetchRefusedError):
        addresses("http://127.0.0.1/", allowed_hosts=("localhost",))
    with pytest.raises(FetchRefusedError):
        addresses("http://127.1/", allowed_hosts=("127.1",))
    assert addresses("http://two.example/") == [PUBLIC]
    assert addresses("http://two.example/", allowed_networks=("10.0.0.0/8",)) == ["10.0.0.7", PUBLIC]
    with pytest.raises(FetchRefusedError):
        addresses("http://self.example/", allowed_networks=("10.0.0.0/8",))


def test_a_name_without_an_address_is_told_apart() -> None:
    """A name that nobody knows may be known later; one that leads inside is refused for good."""
    with pytest.raises(UnknownHostError):
        addresses("http://nowhere.example/")
    with pytest.raises(FetchRefusedError) as caught:
        addresses("http://inner.example/")
    assert not isinstance(caught.value, UnknownHostError)
