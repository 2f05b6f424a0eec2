"""Who may use the server: a key, the Host header, the type of the body."""

import pytest

from ch10_serving import Limits, server_for
from tests.ch10_serving.live import Live, completion
from tests.simulated import needs_simulator
from toolkit.errors import UserError

pytestmark = needs_simulator
KEY = "sesame-öffne-dich"


@pytest.fixture(scope="module")
def served():
    from toolkit import simgpu

    simgpu.reset("eager")
    live = Live(key=KEY)
    yield live
    live.stop()


def with_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}".encode().decode("latin-1")}


def test_the_key(live):
    assert live.post("/v1/completions", completion(), **with_key(KEY)).status == 200
    assert live.get("/v1/models", **with_key(KEY)).status == 200


@pytest.mark.parametrize("key", [None, "", "sesame", KEY + "x", KEY[:-1], KEY.upper()])
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/nowhere"])
def test_a_wrong_key(live, path, key):
    answer = live.get(path, **({} if key is None else with_key(key)))
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_another_scheme(live):
    assert live.get("/v1/models", Authorization=f"Basic {KEY}".encode().decode("latin-1")).status == 401


def test_health_needs_no_key(live):
    assert live.get("/health").status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "127.0.0.1@evil.example", "[::1"])
def test_a_page_that_gave_its_own_name_this_address(live, host):
    answer = live.get("/health", Host=host)
    assert (answer.status, answer.error["code"]) == (403, "wrong_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:9", "[::1]:80"])
def test_its_own_names(live, host):
    assert live.get("/health", Host=host).status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_what_a_page_may_send_without_asking(live, kind):
    """A browser sends some types of content to any address; JSON is none of them."""
    answer = live.post("/v1/completions", completion(), **with_key(KEY), **{"Content-Type": kind})
    assert answer.status == 415 and "application/json" in answer.error["message"]


def test_json_with_a_parameter(live):
    kind = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert live.post("/v1/completions", completion(), **with_key(KEY), **kind).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "example.org"])
def test_others_may_come_with_a_key_only(live, host):
    for key in (None, ""):
        with pytest.raises(UserError, match=f"HOST={host} can be reached by others.*SERVE_API_KEY"):
            server_for(live.service, host, key, Limits(), print)
    assert server_for(live.service, host, "secret", Limits(), print)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_this_machine_needs_none(live, host):
    assert server_for(live.service, host, None, Limits(), print)
