"""Fetching with chosen names and addresses: a name is resolved once, and the address that was checked is reached."""

import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from casimg_api.config import FilteringConfig
from casimg_api.fetch_rules import FetchRefusedError, FetchRules
from casimg_api.fetching import Fetcher, FetchError
from tests.integration.api.data.web import Page, Web, web

DATA = b"data" * 100_000


class Names:
    """A resolver whose answers change with every question."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0)


def fetcher(port: int, names: Names, read_timeout_s: float = 10.0) -> Fetcher:
    """Return one that may reach 127.0.0.1, and no other address of this machine."""
    config = FilteringConfig(allowed_ports=(port,), allowed_networks=("127.0.0.1/32",))
    return Fetcher(FetchRules(config, names), 5.0, read_timeout_s)


def fetched(found: Fetcher, url: str) -> bytes:
    with found.open(url) as body:
        data = b""
        while part := body.read(65536):
            data += part
        return data


@pytest.fixture
def source() -> Iterator[Web]:
    with web() as found:
        found.pages |= {"/image": Page(DATA), "/halting": Page(DATA, drip_s=-1), "/cut": Page(DATA, announced=1 << 20)}
        yield found


def test_a_name_is_resolved_once(source: Web) -> None:
    """A name that changes its address after it was checked is still asked at the one that was; it is told its name."""
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    assert fetched(fetcher(source.port, names), source.url("/image", "images.example")) == DATA
    assert names.asked == ["images.example"]
    assert source.asked[0][1]["host"] == f"images.example:{source.port}"


def test_each_hop_is_resolved_and_checked(source: Web) -> None:
    """A redirect to the same name asks for it anew, and its new address is checked."""
    source.pages["/hop"] = Page(status=302, location=source.url("/image", "images.example"))
    assert fetched(fetcher(source.port, Names(["127.0.0.1"], ["127.0.0.1"])), source.url("/hop", "a.example")) == DATA
    names = Names(["127.0.0.1"], ["127.0.0.2", "::1", "10.0.0.1"])
    source.asked.clear()
    with pytest.raises(FetchRefusedError):
        fetched(fetcher(source.port, names), source.url("/hop", "a.example"))
    assert [path for path, _ in source.asked] == ["/hop"]


def test_the_next_address_is_tried(source: Web) -> None:
    """Of several allowed addresses one that does not answer is passed over; when none does, that is told."""
    config = FilteringConfig(allowed_ports=(source.port,), allowed_networks=("127.0.0.0/8",))
    found = Fetcher(FetchRules(config, Names(["127.0.0.9", "127.0.0.1"], ["127.0.0.9"])), 5.0, 5.0)
    assert fetched(found, source.url("/image", "images.example")) == DATA
    with pytest.raises(FetchError, match=r"images\.example cannot be reached"):
        fetched(found, source.url("/image?signature=s3cret", "images.example"))


def test_what_stands_still_or_is_cut_is_an_error(source: Web) -> None:
    """Data that do not come in time, or end before their announced end, are an error, not a shorter image."""
    for path in ("/halting", "/cut"):
        with pytest.raises(FetchError, match="cut") as caught:
            fetched(fetcher(source.port, Names(["127.0.0.1"]), 0.5), source.url(path, "images.example"))
        assert "images.example" not in str(caught.value)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of images.example with its key, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path / "images.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-out", str(path)]
    command += ["-days", "2", "-subj", "/CN=images.example", "-addext", "subjectAltName=DNS:images.example"]
    subprocess.run([*command, "-keyout", str(tmp_path / "key.pem")], check=True, capture_output=True, timeout=60)
    return path


def test_certificates_are_verified(certificate: Path, source: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS the name of the URL must be the certificate's, and somebody who is trusted must have signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with web(context) as secure:
        secure.pages["/image"] = Page(DATA)
        url = f"https://images.example:{secure.port}/image"
        with pytest.raises(FetchError):
            fetched(fetcher(secure.port, Names(["127.0.0.1"])), url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetched(fetcher(secure.port, Names(["127.0.0.1"])), url) == DATA
        with pytest.raises(FetchError):
            fetched(fetcher(secure.port, Names(["127.0.0.1"])), url.replace("images.", "other."))


def test_a_stop_ends_what_waits(source: Web) -> None:
    """A body that stands still is cut when the fetcher is stopped, and nothing is fetched after that."""
    found = fetcher(source.port, Names(["127.0.0.1"], ["127.0.0.1"]))
    url = source.url("/halting", "images.example")
    with found.open(url) as body:
        taken = 0
        while taken < len(DATA) // 65536 * 65536:
            taken += len(body.read(65536))
        threading.Timer(0.2, found.stop).start()
        began_s = time.monotonic()
        with pytest.raises(FetchError):
            body.read(65536)
        assert time.monotonic() - began_s < 5
    with pytest.raises(FetchError, match="stopped"):
        fetched(found, url)


def test_secrets_go_to_the_first_host_alone(source: Web) -> None:
    """A token goes along a redirect to the same place, and to no other one."""
    source.pages["/same"] = Page(status=302, location="/image")
    source.pages["/other"] = Page(status=302, location=source.url("/image", "other.example"))
    for path, expected in (("/same", ["t", "t"]), ("/other", ["t", None])):
        source.asked.clear()
        found = fetcher(source.port, Names(["127.0.0.1"], ["127.0.0.1"]))
        with found.open(source.url(path, "images.example"), {"X-Auth-Token": "t"}) as body:
            assert body.read(1)
        assert [headers.get("x-auth-token") for _, headers in source.asked] == expected
