"""Sinks: what they are sent, and that neither a slow nor a broken nor a dead one matters to anybody else."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from failsoft import Registry
from failsoft.alerts import AlertRule, Alerts, CallbackSink, LogSink, Notice, SlackSink, WebhookSink, slack_payload
from failsoft.alerts import deliveries as ways


class Receiver:
    """A webhook on the loopback: remembers what was posted, and answers as it is told."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], Any]] = []
        self.answers: list[int] = []
        self.hangs = threading.Event()
        self.let_go = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posts.append((dict(self.headers), json.loads(body)))
                if receiver.hangs.is_set():
                    receiver.let_go.wait(10.0)
                status = receiver.answers.pop(0) if receiver.answers else 204
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/secret"

    def close(self) -> None:
        self.let_go.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    yield registry
    registry.close()


def until(there: Callable[[], object], seconds: float = 5.0) -> bool:
    over = time.monotonic() + seconds
    while not there():
        if time.monotonic() > over:
            return False
        time.sleep(0.002)
    return True


def held(registry: Registry, sinks: list[Any]) -> Alerts:
    """Alerts of which one fires."""
    registry.integration("db", "database").force_open()
    rule = AlertRule("held", when="state == FORCED_OPEN", severity="critical", summary="{integration} is held")
    return Alerts([rule], sinks, registry)


def test_a_webhook_gets_json(registry: Registry, receiver: Receiver) -> None:
    sink = WebhookSink(receiver.url, headers={"Authorization": "Bearer x"})
    alerts = held(registry, [sink])
    alerts.tick()
    registry["db"].reset()
    alerts.tick()
    assert alerts.flush()
    (headers, first), (_, second) = receiver.posts
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Bearer x"
    assert {name: first[name] for name in ("version", "kind", "rule", "severity", "integration", "operation", "summary", "key", "values")} == {
        "version": 1, "kind": "firing", "rule": "held", "severity": "critical", "integration": "db", "operation": None,
        "summary": "db is held", "key": "held/db", "values": {"state": "FORCED_OPEN"},
    }  # fmt: skip
    assert (second["kind"], second["reason"], second["key"]) == ("resolved", "recovered", "held/db")
    assert second["id"] != first["id"]
    (status,) = alerts.status().sinks
    assert (status.name, status.sent, status.failed, status.waiting) == (sink.name, 2, 0, 0)
    assert alerts.close()


def test_an_address_is_a_secret(caplog: pytest.LogCaptureFixture, registry: Registry, receiver: Receiver) -> None:
    sink = WebhookSink(receiver.url, timeout=1.0)
    receiver.answers = [400]
    alerts = held(registry, [sink])
    alerts.tick()
    assert alerts.flush()
    assert "secret" not in repr(sink) + sink.name + caplog.text
    assert "400" in caplog.text
    for url in ("ftp://secret", "secret", "http://", "http://host:port/secret", "file:///secret", None, b"http://secret",
                "http://host/secret\nX", "http://host/sec ret", "http://host/secr\u00e9t"):  # fmt: skip
        with pytest.raises(ValueError, match="url must be one of http") as caught:
            WebhookSink(url)  # type: ignore[arg-type]
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "headers", [{"Authorization": "secret\r\nX: y"}, {"Authorization": b"secret"}, {"a b": "secret"}]
)
def test_headers_are_secrets_too(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="headers") as caught:
        WebhookSink("http://host/", headers=headers)
    assert "secret" not in str(caught.value)


def test_a_webhook_that_fails_is_tried_again_with_the_same_id(registry: Registry, receiver: Receiver) -> None:
    receiver.answers = [503, 503, 200]
    alerts = held(registry, [WebhookSink(receiver.url)])
    alerts.tick()
    assert alerts.flush(10.0)
    assert [post["id"] for _, post in receiver.posts] == [receiver.posts[0][1]["id"]] * 3
    assert alerts.status().sinks[0].sent == 1


def test_what_is_refused_for_good_and_what_is_sent_elsewhere_has_failed(registry: Registry, receiver: Receiver) -> None:
    receiver.answers = [403, 302]
    alerts = held(registry, [WebhookSink(receiver.url)])
    alerts.tick()
    registry["db"].reset()
    alerts.tick()
    assert alerts.flush()
    assert (len(receiver.posts), alerts.status().sinks[0].failed) == (2, 2)


def test_a_webhook_that_is_down_is_spared_and_told_when_it_is_back(
    registry: Registry, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "PAUSE", 0.01)
    receiver.answers = [503] * 6
    alerts = held(registry, [WebhookSink(receiver.url)])
    alerts._guards.integration(
        f"alerts.{alerts._deliveries[0].name}", "external_api",
        timeouts={"connect": 5.0, "read": 5.0, "write": 5.0, "overall": 20.0},
        retry_policy={"max_retries": 2}, circuit_breaker={"timeout": 5.0},
    ).reconfigure(retry_policy={"initial_delay": 0.001, "max_delay": 0.002}, circuit_breaker={"reset_timeout": 0.05})  # fmt: skip
    monkeypatch.setattr(alerts._guards, "integration", lambda *_, **__: next(iter(alerts._guards)))
    alerts.tick()
    assert alerts.flush(10.0)
    (breaker,) = alerts._guards
    assert alerts.status().sinks[0].sent == 1
    assert breaker.metrics("send").error_count >= 5  # it has opened on the way
    assert breaker.explain().status.generation > 0


def test_a_sink_that_hangs_holds_up_nobody(registry: Registry, receiver: Receiver) -> None:
    receiver.hangs.set()
    heard: list[Notice] = []
    never = threading.Event()
    sinks = [
        WebhookSink(receiver.url, timeout=0.2),
        CallbackSink(lambda _: never.wait(30.0), name="hung", timeout=0.05),
        heard.append,
    ]
    alerts = held(registry, sinks)
    began = time.monotonic()
    alerts.tick()
    assert time.monotonic() - began < 0.2
    assert until(lambda: heard)
    assert until(lambda: alerts.status().sinks[1].failed == 1)
    registry["db"].reset()
    alerts.tick()
    assert until(lambda: len(heard) == 2)
    assert alerts.status().sinks[0].sent == 0
    began = time.monotonic()
    assert not alerts.close(0.1)
    assert time.monotonic() - began < 2.0
    never.set()
    receiver.let_go.set()
    assert alerts.flush()  # it has given up by itself


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_sink_that_raises_hurts_nobody(registry: Registry, error: type[BaseException]) -> None:
    heard: list[Notice] = []

    def broken(notice: Notice) -> None:
        raise error

    alerts = held(registry, [broken, heard.append])
    alerts.tick()
    assert alerts.flush()
    assert [(status.sent, status.failed) for status in alerts.status().sinks] == [(0, 1), (1, 0)]
    assert len(heard) == 1


def test_what_finds_a_queue_full_is_dropped_and_counted(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "QUEUE_MOST", 3)
    go_on, begun = threading.Event(), threading.Event()

    def slow(notice: Notice) -> None:
        begun.set()
        go_on.wait(10.0)

    alerts = held(registry, [CallbackSink(slow, timeout=10.0)])
    alerts.tick()
    assert begun.wait(5.0)
    for _ in range(3):
        registry["db"].reset()
        alerts.tick()
        registry["db"].force_open()
        alerts.tick()
    go_on.set()
    assert alerts.flush()
    (status,) = alerts.status().sinks
    assert (status.sent, status.dropped) == (4, 3)


def test_sinks_are_called_in_order_and_outside_locks(registry: Registry) -> None:
    told: list[str] = []
    alerts: Alerts

    def curious(notice: Notice) -> None:
        other = threading.Thread(target=alerts.status)  # would wait for ever under a lock of ours
        other.start()
        other.join(5.0)
        assert not other.is_alive()
        alerts.silence(rule="other")
        told.append(notice.kind)

    alerts = held(registry, [curious])
    for _ in range(3):
        alerts.tick()
        registry["db"].reset()
        alerts.tick()
        registry["db"].force_open()
    assert alerts.flush()
    assert told == ["firing", "resolved"] * 3


def test_a_log_has_the_fields(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    alerts = held(registry, [LogSink()])
    alerts.tick()
    registry["db"].reset()
    alerts.tick()
    assert alerts.flush()
    first, second = caplog.records
    assert (first.name, first.levelno, first.getMessage()) == (
        "failsoft.alerts", logging.ERROR, "firing: held: db is held (state FORCED_OPEN)",
    )  # fmt: skip
    assert (first.alert_rule, first.alert_kind, second.levelno) == ("held", "firing", logging.INFO)  # type: ignore[attr-defined]


def test_a_name_cannot_forge_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()
    name = "db\nERROR failsoft.alerts all is lost\x1b[2J\u202e"
    registry.integration(name, "database").force_open()
    alerts = Alerts([AlertRule("held", when="state == FORCED_OPEN", summary="{integration}")], [LogSink()], registry)
    alerts.tick()
    assert alerts.flush()
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert record.alert_integration == name  # type: ignore[attr-defined]
    registry.close()


HOSTILE = '<!channel> @here *b* <https://evil|click> &amp; \x00\u202e" ' + "x" * 1_000_000


def test_slack_gets_what_it_knows_and_hostile_names_are_inert(receiver: Receiver) -> None:
    registry = Registry()
    registry.integration(HOSTILE, "database").force_open()
    rule = AlertRule("held", when="state == FORCED_OPEN", severity="critical", summary="{integration} is held")
    alerts = Alerts([rule], [SlackSink(receiver.url), WebhookSink(receiver.url, name="json")], registry)
    (notice,) = alerts.tick()
    assert alerts.flush()
    registry.close()
    payload = slack_payload(notice)
    posts = sorted((post for _, post in receiver.posts), key=lambda post: "text" in post)
    assert posts[1] == payload
    text = json.dumps(payload)
    assert len(text) < 5_000
    assert len(json.dumps(posts[0])) < 5_000
    assert not {"<", ">", "\u202e"} & set(payload["text"])
    assert "@here" not in payload["text"]
    (attachment,) = payload["attachments"]
    assert attachment["color"] == "#c62828"
    assert [field["title"] for field in attachment["fields"]] == ["Integration", "Severity", "Condition", "Seen"]


def test_slack_and_its_kin_make_no_markup_of_a_name() -> None:
    """Slack's top text is markup unless it is told otherwise; Mattermost knows no such switch, and [links](...)."""
    registry = Registry()
    registry.integration("[docs.example](https://evil.example)", "database").force_open()
    (notice,) = Alerts([AlertRule("held", when="state == FORCED_OPEN")], (), registry).tick()
    registry.close()
    payload = slack_payload(notice)
    assert payload["mrkdwn"] is False
    assert "](" not in json.dumps(payload, ensure_ascii=False)


def test_payload_of_ones_own(registry: Registry, receiver: Receiver) -> None:
    def payload(notice: Notice) -> dict[str, str]:
        return {"said": str(notice)}

    alerts = held(
        registry, [WebhookSink(receiver.url, payload=payload), SlackSink(receiver.url, name="slack", payload=payload)]
    )
    alerts.tick()
    assert alerts.flush()
    assert [post for _, post in receiver.posts] == [{"said": "firing: held: db is held (state FORCED_OPEN)"}] * 2


def test_coroutine_functions_are_refused() -> None:
    async def tell(notice: Notice) -> None: ...

    with pytest.raises(TypeError, match="run_coroutine_threadsafe"):
        CallbackSink(tell)
    with pytest.raises(TypeError, match="callback must be callable"):
        CallbackSink(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        CallbackSink(print, timeout=0.0)


def test_sinks_are_not_among_what_is_observed(registry: Registry) -> None:
    alerts = held(registry, [print])
    alerts.tick()
    assert alerts.flush()
    assert [integration.name for integration in registry] == ["db"]
