"""No caller and no provider can make the gateway ask somebody whom the operator did not name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from msgspec import Struct
from msgspec.structs import replace

from embedway.provider import HttpRequest, TransportError
from embedway.server.app import App
from embedway.settings import LocalSettings
from embedway.transport import Transport
from tests.asgi import call, running
from tests.fake_provider.accounts import settings as fake_settings
from tests.fake_provider.exchange import KEY
from tests.fake_provider.faults import answers
from tests.fake_provider.server import FakeProvider, running_fake
from tests.fake_provider.shapes.all import BASE_PATHS
from tests.fakes import FakeClock
from tests.security.addresses import attacks
from tests.security.fields import FIELDS, OPTIONS, SMALL, Field, Sent
from tests.security.watch import Seen, Trap, running_trap, watching

pytestmark = pytest.mark.asyncio(loop_scope="module")

REDIRECTS = (300, 301, 302, 303, 305, 307, 308)


class Place(Struct, frozen=True):
    """A gateway whose every account is at the fake provider, and a trap beside it."""

    app: App
    fake: FakeProvider
    trap: Trap
    clock: FakeClock

    @property
    def origin(self) -> tuple[str, int]:
        """Where all accounts are."""
        parts = urlsplit(self.fake.origin)
        return str(parts.hostname), int(parts.port or 0)

    async def send(self, sent: Sent) -> int:
        """The status that is answered to a request."""
        # A caller puts any bytes into a header; HTTP reads them as Latin-1.
        headers = {name: text.encode().decode("latin-1") for name, text in sent.headers.items()}
        self.clock.advance(60)  # whoever failed a moment ago is asked again
        answer = await call(self.app, sent.method, sent.path, headers, sent.body)
        return answer.status

    def check(self, seen: Seen, said: object) -> None:
        """The law: nobody but the fake was asked, at an account's own path."""
        assert seen.connections <= {self.origin}, said
        assert not seen.names, said
        assert not self.trap.visits, said
        for request in self.fake.requests:
            assert request.headers["host"] == "{}:{}".format(*self.origin), said
            assert request.target.startswith(f"{BASE_PATHS[request.provider]}/"), said
            assert str(self.trap.port) not in request.target, said
        self.fake.requests.clear()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """One for all tests of this file, with the real transport."""
    clock = FakeClock()
    async with running_fake() as fake, running_trap() as trap:
        settings = replace(
            fake_settings(fake, *BASE_PATHS),
            home=str(tmp_path_factory.mktemp("home")),
            local=LocalSettings(enabled=False),
        )
        async with running(settings, clock=clock) as app:
            yield Place(app, fake, trap, clock)


async def hold(place: Place, field: Field) -> None:
    """Put every attack into a field, and look at who was asked."""
    for attack in attacks(place.trap.port):
        with watching() as seen:
            status = await place.send(field(attack))
        place.check(seen, (attack, status))
        assert status < 500, (attack, status)  # it is the caller's mistake, or none


@pytest.mark.parametrize("name", FIELDS)
async def test_fields(place: Place, name: str) -> None:
    """Whatever stands in whichever field, header or path, nothing goes elsewhere."""
    await hold(place, FIELDS[name])


@pytest.mark.parametrize("provider", BASE_PATHS)
async def test_options(place: Place, provider: str) -> None:
    """Whatever an option of a provider is set to, it does not decide where that provider is."""
    model = next(
        name for name, stack in place.app.runtime.gateway.models.items() if provider in stack.health
    )

    def asked(field: Field) -> Field:
        def sent(attack: str) -> Sent:
            made = field(attack)
            return replace(made, body={**made.body, "model": model})

        return sent

    fields = {name: one for name, one in OPTIONS.items() if name.split(".")[1] == provider}
    assert fields
    for field in fields.values():
        await hold(place, asked(field))


async def test_the_cases_are_many(place: Place) -> None:
    """There are far more than 120 cases, of which many do reach a provider."""
    assert len(attacks(1)) * (len(FIELDS) + len(OPTIONS)) >= 120
    for name in ("input", "user", "header user-agent", "values"):
        with watching() as seen:
            assert await place.send(FIELDS[name](place.trap.url)) == 200
        assert place.fake.requests or seen.connections, name
        place.check(seen, name)


async def test_the_trap_and_the_watch() -> None:
    """What does go elsewhere is seen: the connection, the name, and what was sent."""
    async with running_trap() as trap, Transport() as transport:
        with watching() as seen:
            for host in ("127.0.0.1", "localhost"):
                request = HttpRequest(
                    "POST", f"http://{host}:{trap.port}/", {}, b"x", is_private=True
                )
                with pytest.raises(TransportError):
                    await transport(request, timeout_s=5, max_bytes=100)
    assert ("127.0.0.1", trap.port) in seen.connections
    assert "localhost" in seen.names
    assert trap.visits[0].startswith(b"POST / ")


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("form", ["{}/v1", "//{}/v1", "/elsewhere", "https://{}/v1"])
async def test_redirects(place: Place, status: int, form: str) -> None:
    """A provider that points elsewhere, even at itself, is not followed: it has failed."""
    location = form.format(
        place.trap.url if form.startswith("{") else f"127.0.0.1:{place.trap.port}"
    )
    place.fake.always(answers(b"{}", status, location=location))
    try:
        with watching() as seen:
            assert await place.send(FIELDS["input"]("a text")) == 503
    finally:
        place.fake.heal()
    assert all("elsewhere" not in request.target for request in place.fake.requests)
    assert place.fake.requests
    place.check(seen, location)


@pytest.mark.parametrize("provider", BASE_PATHS)
async def test_redirects_of_every_provider(place: Place, provider: str) -> None:
    """No adapter follows one on its own."""
    model = next(
        name for name, stack in place.app.runtime.gateway.models.items() if provider in stack.health
    )
    body = {"model": model, "input": "a text", "provider": provider, "gateflow": {"cache": "skip"}}
    place.fake.always(answers(b"{}", 307, location=f"{place.trap.url}/{KEY}"))
    try:
        with watching() as seen:
            assert await place.send(Sent(body=body)) == 503
    finally:
        place.fake.heal()
    assert {request.provider for request in place.fake.requests} == {provider}
    place.check(seen, provider)


@pytest.mark.parametrize(
    "name", ["location", "content-location", "refresh", "link", "alt-svc", "set-cookie"]
)
async def test_hints_beside_an_answer(place: Place, name: str) -> None:
    """A header beside an answer leads nowhere, neither now nor with the next request."""
    address = f"127.0.0.1:{place.trap.port}"
    hint = {
        "refresh": f"0; url=http://{address}",
        "link": f"<http://{address}>; rel=preload",
        "alt-svc": f'http/1.1="{address}"; ma=86400',
        "set-cookie": f"where={address}; Domain=127.0.0.1",
    }.get(name, f"http://{address}/v1")
    asked = {"model": SMALL, "input": "a text", "gateflow": {"cache": "skip"}}
    fault = answers(b'{"error": {"message": "no"}}', 400, **{name: hint})
    place.fake.next(fault)
    with watching() as seen:
        assert await place.send(Sent(body=asked)) == 400
        assert await place.send(Sent(body=asked)) == 200
    assert all("cookie" not in request.headers for request in place.fake.requests)
    place.check(seen, name)
