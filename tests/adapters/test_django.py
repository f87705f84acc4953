"""The middleware for Django, under both of its handlers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from failsoft import Registry, remaining

pytest.importorskip("django")

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured  # noqa: F401  # a Django, and not another package
from django.http import JsonResponse
from django.urls import path

MIDDLEWARE = ["failsoft.adapters.django.FailsoftMiddleware"]

if not settings.configured:
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", MIDDLEWARE=MIDDLEWARE, FAILSOFT={"most": 10.0})  # fmt: skip

database = Registry().integration("orders", "database")
database.force_open()


@database.guard
def orders() -> None: ...


def left(request: Any) -> Any:
    return JsonResponse({"left": remaining()})


def refused(request: Any) -> Any:
    orders()


async def left_async(request: Any) -> Any:
    return JsonResponse({"left": remaining()})


async def refused_async(request: Any) -> Any:
    orders()


def broken(request: Any) -> Any:
    raise ZeroDivisionError


urlpatterns = [path("left", left), path("refused", refused), path("aleft", left_async), path("arefused", refused_async), path("broken", broken)]  # fmt: skip


def ask(url: str, *, kind: str, **headers: str) -> Any:
    from django.test import AsyncClient, Client

    if kind == "sync":
        return Client(raise_request_exception=False).get(url, headers=headers)

    async def main() -> Any:
        return await AsyncClient(raise_request_exception=False).get(url, headers=headers)

    return asyncio.run(main())


KINDS = [("sync", "/"), ("async", "/a")]


@pytest.mark.parametrize(("kind", "prefix"), KINDS, ids=["sync", "async"])
def test_a_callers_deadline_holds(kind: str, prefix: str) -> None:
    assert ask(f"{prefix}left", kind=kind).json() == {"left": None}
    for milliseconds, most in (("2000", 2.0), ("99999999", 10.0)):
        answer = ask(f"{prefix}left", kind=kind, **{"x-envoy-expected-rq-timeout-ms": milliseconds})
        assert most - 1.0 < answer.json()["left"] <= most
    assert ask(f"{prefix}left", kind=kind, **{"grpc-timeout": "0S"}).status_code == 504


@pytest.mark.parametrize(("kind", "prefix"), KINDS, ids=["sync", "async"])
def test_a_refusal_is_a_503(kind: str, prefix: str) -> None:
    answer = ask(f"{prefix}refused", kind=kind)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "DB_CIRCUIT_OPEN"


def test_other_errors_are_left_to_django() -> None:
    assert ask("/broken", kind="sync").status_code == 500


def test_its_settings_are_checked() -> None:
    from django.test import override_settings

    from failsoft.adapters.django import FailsoftMiddleware

    for wrong in ({"mist": 1.0}, {"most": -1.0}):
        with override_settings(FAILSOFT=wrong), pytest.raises(ValueError, match="most"):
            FailsoftMiddleware(left)
