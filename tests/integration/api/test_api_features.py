"""A server with other settings: stores, CORS, policies, health, limits; and one without any."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import casimg
from casimg.errors import ConfigError
from casimg_api.config import Config
from casimg_api.wsgi_loading import load
from tests.api_serving import Client, serving, site

SETTINGS = """
[server]
public_endpoint = "https://images.example/"
json_body_size_max = 2048
[policy]
policy_file = "policy.yaml"
[images]
disk_formats = ["raw", "luks"]
image_property_quota = 1
image_tag_quota = -1
image_member_quota = 0
limit_param_default = 2
api_limit_max = 3
[store]
multi_store = true
[stores.local]
store_description = "packs"
weight = 7
[cors]
allowed_origin = ["https://horizon.example"]
[health]
disable_by_file_path = "down"
"""


@dataclass(frozen=True)
class Site:
    folder: Path
    admin: Client
    alice: Client


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with settings of its own, its folder and two callers."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "policy.yaml").write_text("")
    with serving("--config", str(site(folder, SETTINGS)), "--workers", "2") as client:
        yield Site(folder, client.as_("admin"), client.as_("alice"))


def test_versions_of_many_stores(other: Site) -> None:
    """With many stores the versions that they came with are told, below the endpoint that is public."""
    versions = other.alice.get("/versions").json["versions"]
    assert {"v2.8", "v2.10", "v2.11", "v2.12", "v2.13"} < {version["id"] for version in versions}
    assert versions[0]["links"] == [{"rel": "self", "href": "https://images.example/v2/"}]
    assert other.alice.get("/v2.12/images").status == 200


def test_stores(other: Site) -> None:
    """The backend is a store: told with `true` as a text, in detail to administrators, named when images are made."""
    told = {"id": "local", "description": "packs", "default": "true"}
    assert other.alice.get("/v2/info/stores").json == {"stores": [told]}
    assert other.alice.get("/v2/info/stores/detail").status == 403
    detail = {**told, "type": "file", "weight": 7, "properties": {"thin_provisioning": True}}
    assert other.admin.get("/v2/info/stores/detail").json == {"stores": [detail]}
    made = other.alice.post("/v2/images", {})
    assert made.header("OpenStack-image-store-ids") == "local"
    assert "stores" not in made.json


def test_deleting_from_a_store(other: Site) -> None:
    """The last copy is never deleted from a store; other stores are 409, other images 404."""
    image = other.alice.image()["id"]
    assert other.admin.delete(f"/v2/stores/slow/{image}").status == 409
    assert other.admin.delete("/v2/stores/local/none").status == 404
    assert other.alice.delete(f"/v2/stores/local/{image}").status == 403
    assert other.admin.delete(f"/v2/stores/local/{image}").status == 409


def test_formats_and_quotas(other: Site) -> None:
    """Formats are those of the configuration, also in the schema; a quota of 0 allows none, a negative one all."""
    schema = other.alice.get("/v2/schemas/image").json
    assert schema["properties"]["disk_format"]["enum"] == [None, "raw", "luks"]
    assert other.alice.post("/v2/images", {"disk_format": "qcow2"}).status == 400
    assert other.alice.post("/v2/images", {"a": "1", "b": "2"}).status == 413
    path = other.alice.image(disk_format="luks", tags=[f"{n}" for n in range(200)])["self"]
    assert other.alice.post(f"{path}/members", {"member": "p-bob"}).status == 413
    assert other.alice.put(f"{path}/tags/more").status == 204
    assert other.alice.post("/v2/images", {"name": "x" * 2048}).status == 413


def test_page_sizes(other: Site) -> None:
    """A page has as many images as configured, and never more than the maximum."""
    for number in range(4):
        other.alice.image(name=f"page {number}")
    for query, count in (("", 2), ("?limit=1", 1), ("?limit=100", 3)):
        assert len(other.alice.get(f"/v2/images{query}").json["images"]) == count


def test_location_is_public(other: Site) -> None:
    """The URL of a new image begins with the endpoint that is public."""
    location = other.alice.post("/v2/images", {}).header("Location") or ""
    assert location.startswith("https://images.example/v2/images/")


def test_policy_file_counts_at_once(other: Site) -> None:
    """A rule written while the server runs counts for the next request, in every worker; a broken file for none."""
    path = other.folder / "policy.yaml"
    image = other.alice.image(name="kept")
    try:
        path.write_text('"delete_image": "rule:context_is_admin"\n"get_images": "!"\n')
        assert {other.alice.delete(image["self"]).status for _ in range(8)} == {403}
        assert {other.admin.get("/v2/images").status for _ in range(8)} == {403}
        path.write_text('"get_images": ')
        assert {other.admin.get("/v2/images").status for _ in range(8)} == {403}
        path.write_text('"get_image": "not \'kept\':%(name)s"\n')
        assert {other.alice.get(image["self"]).status for _ in range(8)} == {404}
        assert other.alice.get("/v2/images?name=kept").json["images"] == []
    finally:
        path.write_text("")
    assert other.alice.delete(image["self"]).status == 204


def test_cors(other: Site) -> None:
    """A page of an allowed origin may call, any other may not; a preflight needs no token."""
    origin = {"Origin": "https://horizon.example"}
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "X-Auth-Token, content-type"}
    nobody = other.alice.as_(None)
    preflight = nobody.call("OPTIONS", "/v2/images/x/file", headers={**origin, **asked})
    assert preflight.status == 200
    assert preflight.header("Access-Control-Allow-Origin") == "https://horizon.example"
    assert preflight.header("Access-Control-Allow-Methods") == "PUT"
    assert preflight.header("Access-Control-Allow-Headers") == "X-Auth-Token,content-type"
    refused = [
        {**asked, "Origin": "https://evil.example"},
        {**origin, "Access-Control-Request-Method": "TRACE"},
        {**origin, **asked, "Access-Control-Request-Headers": "X-Evil"},
    ]
    for headers in refused:
        answer = nobody.call("OPTIONS", "/v2/images/x/file", headers=headers)
        assert (answer.status, answer.header("Access-Control-Allow-Methods")) == (200, None)
    for client, status in ((other.alice, 200), (nobody, 401)):
        answer = client.call("GET", "/v2/images", headers=origin)
        assert (answer.status, answer.header("Access-Control-Allow-Origin")) == (status, "https://horizon.example")
        assert answer.header("Vary") == "Origin"
    evil = other.alice.call("GET", "/v2/images", headers={"Origin": "https://evil.example"})
    assert evil.header("Access-Control-Allow-Origin") is None


def test_out_of_service(other: Site) -> None:
    """While the file of the operator is there, health is 503 and everything else goes on."""
    down = other.folder / "down"
    down.touch()
    try:
        answer = other.alice.call("GET", "/healthcheck", headers={"Accept": "*/*"})
        assert (answer.status, answer.body) == (503, b"DISABLED BY FILE")
        assert other.alice.get("/v2/images").status == 200
    finally:
        down.unlink()


def test_without_configuration(tmp_path: Path) -> None:
    """`casimg serve REPO` works at once: no token, admin of one project; the repository's images are there."""
    with casimg.create(tmp_path / "repo") as repo:
        put = repo.put(iter([b"a disk" * 1000]), name="from the command line", owner="casimg")
    with serving(str(tmp_path / "repo")) as client:
        (image,) = client.get("/v2/images").json["images"]
        assert (image["id"], image["status"], image["size"]) == (put.id, "active", 6000)
        assert image["visibility"] == "private"
        assert client.image(visibility="public")["owner"] == "casimg"
        path = image["self"]
        assert client.patch(path, [{"op": "replace", "path": "/name", "value": "renamed"}]).status == 200
        refused = client.patch(path, [{"op": "replace", "path": "/disk_format", "value": "qcow2"}])
        assert refused.status == 403
        for _ in range(2):
            assert client.post(f"{path}/actions/deactivate").status == 204
        assert client.get(path).json["status"] == "deactivated"
        for _ in range(2):
            assert client.post(f"{path}/actions/reactivate").status == 204
        assert client.get(path).json["status"] == "active"
    with casimg.open(tmp_path / "repo") as repo:
        assert repo.image("renamed").id == put.id


@pytest.mark.parametrize(
    ("config", "arguments", "why"),
    [
        ("[server]\nhost = '0.0.0.0'\n[auth]\nmode = 'none'\n", (), "there is no authentication"),
        ("[auth]\nmode = 'none'\n", ("--host", "192.0.2.1"), "there is no authentication"),
        ("[sever]\n", (), "unknown section sever"),
        ("[auth]\nmode = 'tokens'\ntokens_file = 'none.toml'\n", (), "none.toml"),
        ("[policy]\npolicy_file = 'none.yaml'\n", (), "none.yaml"),
    ],
)
def test_refuses_to_start(tmp_path: Path, config: str, arguments: tuple[str, ...], why: str) -> None:
    """What would be open to everybody, or cannot be read, is told in one line, and nothing is served."""
    path = site(tmp_path, config)
    done = subprocess.run(
        [sys.executable, "-m", "casimg", "serve", "--config", str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 6
    assert why in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_sample_is_shown() -> None:
    """The command itself says what can be configured."""
    done = subprocess.run(
        [sys.executable, "-m", "casimg", "serve", "--sample"], capture_output=True, text=True, timeout=60, check=True
    )
    assert Config.of(tomllib.loads(done.stdout), "sample") == Config()
    assert "\n#tokens_file = " in done.stdout


def test_loaded_by_other_servers(tmp_path: Path) -> None:
    """The module for other WSGI servers needs a configuration that names its repository."""
    path = tmp_path / "server.toml"
    path.write_text("")
    with pytest.raises(ConfigError, match="must name the configuration"):
        load(None)
    with pytest.raises(ConfigError, match="must name the repository"):
        load(str(path))
    assert callable(load(str(site(tmp_path))))
