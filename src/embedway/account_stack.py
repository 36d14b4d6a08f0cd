"""One account's stack: from the provider to what `balance` chooses among, but for `split`.

"Above" means: the request meets it earlier.
"""

from __future__ import annotations

from pathlib import Path

from embedway.accounts import Served
from embedway.aws_credentials import AwsChain
from embedway.headroom import Headroom
from embedway.layers.booked import Booked
from embedway.layers.limit import Limit
from embedway.parts import Limits, most_tokens
from embedway.service_account import ServiceAccount
from embedway.surroundings import Surroundings
from embedway.types import Embedder, EmbedRequest
from embedway.upstream import Renewed, Upstream


def limited(served: Served, around: Surroundings) -> Limit:
    """The account's calls, within its headroom; each is written down when it leaves."""
    deployment, limits = served.deployment, limits_of(served)
    headroom = Headroom(
        around.clock,
        deployment.concurrency,
        deployment.requests_per_minute,
        deployment.tokens_per_minute,
    )

    def weigh(request: EmbedRequest) -> int:
        return sum(limits.weigh(value) for value in request.inputs)

    # Above the end: it counts what truly leaves.
    return Limit(_end(served, around), deployment.name, headroom, around.clock, weigh)


def limits_of(served: Served) -> Limits:
    """The most that one request to it may hold."""
    return Limits(
        inputs=served.deployment.max_inputs,
        tokens=served.deployment.max_request_tokens,
        tokenizer=served.deployment.tokenizer,
    )


def _end(served: Served, around: Surroundings) -> Embedder:
    deployment = served.deployment
    renewed: Renewed | None = None
    if served.credentials_file is not None:
        file = Path(served.credentials_file).expanduser()
        renewed = ServiceAccount(file, around.send, around.clock)
    elif served.provider.sign is not None and not (deployment.credential or deployment.access_key):
        renewed = AwsChain(deployment.name)
    end = Upstream(served.provider, deployment, around.send, around.clock, renewed)
    if around.books is None:
        return end
    # Above the end, below Limit: written down when it leaves, not while it waits.
    return Booked(
        end,
        deployment,
        served.provider.name,
        around.books.ledger,
        lambda request: most_tokens(request.inputs),
        around.books.ids,
        around.clock,
    )
