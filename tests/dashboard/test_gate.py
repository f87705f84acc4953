"""Who is let in, and what every answer carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.datastructures import URL
from starlette.routing import Mount
from starlette.testclient import TestClient

import failsoft
from failsoft import dashboard

from .conftest import BASE, From, Visit

TOKEN = "a-token-of-some-length"
ADDRESSES = ("/", "/api/state", "/static/main.js", "/login", "/metrics", "/nowhere")


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost", "localhost:1", "[::1]:8765", "10.0.0.7"])
def test_is_known_by_localhost_and_addresses(visit: Visit, host: str) -> None:
    assert visit().get("/api/state", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "a@b"]
)
def test_a_name_that_was_pointed_here_is_not_answered(visit: Visit, host: str) -> None:
    visitor = visit()
    for address in ADDRESSES:
        assert visitor.get(address, headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1/login?", "localhost/login#", "localhost:8765/static/style.css?x=", "a@127.0.0.1", "127.0.0.1\\login"],
)
def test_a_host_that_goes_on_as_an_address_is_none(visit: Visit, host: str) -> None:
    """Some versions of Starlette would take what is behind the slash for the path, and /login is open to all."""
    far = visit(("10.1.2.3", 1), token=TOKEN, controls=True)
    assert far.get("/api/state", headers={"host": host}).status_code == 421
    assert far.post("/api/control", headers={"host": host, "x-failsoft-control": "1"}, json={}).status_code == 421


def test_the_path_that_is_routed_is_the_one_that_is_asked_about(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starlette.requests.Request.url", URL("http://127.0.0.1/login?/api/state"))
    assert visit(("10.1.2.3", 1), token=TOKEN).get("/api/state").status_code == 401


def test_names_may_be_allowed(visit: Visit) -> None:
    assert visit(hosts=["Ops.Example"]).get("/api/state", headers={"host": "ops.example:443"}).status_code == 200
    assert visit(hosts=["ops.example"]).get("/api/state", headers={"host": "evil.example"}).status_code == 421
    assert visit(hosts=["*"]).get("/api/state", headers={"host": "evil.example"}).status_code == 200


@pytest.mark.parametrize("headers", [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:9999"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
], ids=["another", "null", "another port", "cross-site", "same-site"])  # fmt: skip
def test_pages_of_other_sites_read_nothing(visit: Visit, headers: dict[str, str]) -> None:
    for address in ("/api/state", "/events", "/metrics", "/static/main.js"):
        assert visit().get(address, headers=headers).status_code == 403


def test_a_link_from_elsewhere_opens_the_page(visit: Visit) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert visit().get("/", headers=headers).status_code == 200
    assert visit(controls=True).post("/api/control", headers=headers, json={}).status_code == 403


def test_without_a_token_only_this_machine_is_answered(visit: Visit) -> None:
    assert visit(("127.0.0.2", 1)).get("/api/state").status_code == 200
    assert visit(("::1", 1)).get("/api/state").status_code == 200
    for address in ("/", "/api/state", "/events", "/metrics", "/api/integrations/000000000000"):
        assert visit(("10.1.2.3", 1)).get(address).status_code == 403


@pytest.mark.parametrize("header", ["forwarded", "via", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"])
def test_a_proxy_on_this_machine_is_not_this_machine(visit: Visit, header: str) -> None:
    assert visit().get("/api/state", headers={header: "127.0.0.1"}).status_code == 403


def test_a_token_opens_from_anywhere_and_nothing_else_does(visit: Visit) -> None:
    far = visit(("10.1.2.3", 1), token=TOKEN)
    for given in (None, "", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", "Bearer \xff"):
        headers = {} if given is None else {"authorization": given.encode("latin-1")}
        answer = far.get("/api/state", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert far.get("/api/state", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert visit(token=TOKEN).get("/api/state").status_code == 401  # this machine too


def test_the_login_page_gives_a_cookie_for_the_token(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("failsoft.dashboard.pages.GUESS_DELAY", 0.0)
    far = visit(("10.1.2.3", 1), token=TOKEN)
    assert far.get("/").headers["location"] == "login"
    assert far.get("/login").status_code == 200
    assert far.post("/login", data={"token": "wrong"}).status_code == 403
    assert far.post("/login", content=b"token=" + b"x" * 100_000).status_code == 403
    assert not far.cookies
    answer = far.post("/login", data={"token": TOKEN})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in answer.headers["set-cookie"]
    assert far.get("/api/state").status_code == 200
    assert visit(token=TOKEN + "2").get("/api/state", headers={"cookie": cookie.partition(";")[0]}).status_code == 401


def test_a_token_in_the_address_is_taken_out_of_it(visit: Visit) -> None:
    far = visit(("10.1.2.3", 1), token=TOKEN)
    answer = far.get("/", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "./")
    assert far.get("/").status_code == 200


def test_another_site_cannot_log_anybody_in(visit: Visit) -> None:
    answer = visit(token=TOKEN).post("/login", data={"token": TOKEN}, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_an_application_may_know_its_users(visit: Visit) -> None:
    far = visit(("10.1.2.3", 1), authorize=lambda request: request.headers.get("x-user") == "ops")
    assert far.get("/api/state", headers={"x-user": "ops"}).status_code == 200
    assert far.get("/api/state", headers={"x-user": "eve"}).status_code == 403


def test_an_async_function_lets_nobody_in(visit: Visit) -> None:
    """A coroutine is true, whatever it would have said."""

    async def no(_: object) -> bool:
        return False

    with pytest.raises(TypeError, match="authorize must be a plain function"):
        visit(authorize=no)
    waiting: list[Any] = []

    def hidden(request: object) -> Any:
        waiting.append(no(request))
        return waiting[-1]

    assert visit(authorize=hidden).get("/api/state").status_code == 403
    for one in waiting:
        one.close()


def test_every_answer_is_strict(visit: Visit) -> None:
    visitor = visit()
    for address in ADDRESSES:
        _is_strict(visitor.get(address, headers={"origin": BASE}).headers)


def _is_strict(headers: Mapping[str, str]) -> None:
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] in ("no-store", "no-cache")
    assert not [name for name in headers if name.startswith("access-control-")]


def test_data_is_not_cached_and_refusals_are_strict_too(visit: Visit) -> None:
    assert visit().get("/api/state").headers["cache-control"] == "no-store"
    refused = visit().get("/api/state", headers={"host": "evil.example"})
    assert refused.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "ä" * 20, 5])
def test_a_token_must_be_worth_the_name(token: object) -> None:
    with pytest.raises(ValueError, match="token must be"):
        dashboard.app(failsoft.Registry(), token=token)  # type: ignore[arg-type]


def test_serving_others_needs_a_token() -> None:
    pytest.importorskip("uvicorn")
    for host in ("0.0.0.0", "::", "10.1.2.3", "ops.example"):
        with pytest.raises(ValueError, match="token"):
            dashboard.serve(failsoft.Registry(), host=host)


def test_mounted_under_a_path(registry: failsoft.Registry, payments: failsoft.Integration) -> None:
    outer = Starlette(routes=[Mount("/ops/failsoft", dashboard.app(registry, token=TOKEN))])
    client = TestClient(From(outer), base_url=BASE, follow_redirects=False)
    assert client.get("/ops/failsoft/").headers["location"] == "login"
    answer = client.post("/ops/failsoft/login", data={"token": TOKEN})
    assert "path=/ops/failsoft/" in answer.headers["set-cookie"].lower()
    assert "static/main.js" in client.get("/ops/failsoft/").text
    assert client.get("/ops/failsoft/static/main.js").status_code == 200
    assert client.get("/ops/failsoft/api/state").json()["cards"][0]["name"] == "payments"


def test_mounted_in_fastapi(registry: failsoft.Registry, payments: failsoft.Integration) -> None:
    fastapi = pytest.importorskip("fastapi")
    outer = fastapi.FastAPI()
    outer.mount("/failsoft", dashboard.app(registry))
    client = TestClient(From(outer), base_url=BASE)
    assert client.get("/failsoft/api/state").json()["cards"][0]["name"] == "payments"
    assert "<title>" in client.get("/failsoft").text
