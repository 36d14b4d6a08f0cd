"""What an operator can set, with defaults, units and meanings. `origins.py` reads the values.

Units stand in the names (`_s`, `_bytes`, `_inputs`). `docs/settings.md` is generated from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from embedway.secret import Secret

__all__ = [
    "AccountSettings",
    "CacheSettings",
    "LocalSettings",
    "LogSettings",
    "ModelSettings",
    "OidcSettings",
    "ServerSettings",
    "Settings",
]

_Count = Annotated[int, Meta(ge=1)]
Overlong = Literal["error", "truncate", "mean"]
ResponseMetadata = Literal["both", "gateway", "gateflow", "none"]


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP server."""

    listen: Annotated[
        str, Meta(description="Address and port. Any but a loopback address needs a key first.")
    ] = "127.0.0.1:1536"
    cors_origins: Annotated[
        tuple[str, ...], Meta(description="Web origins that may call from a browser; none.")
    ] = ()
    response_metadata: Annotated[
        ResponseMetadata, Meta(description="Which extension blocks an answer carries.")
    ] = "both"
    max_body_bytes: Annotated[
        int,
        # 2,048 texts of 300,000 tokens in all are some 1.5 MB; nginx allows 1 MiB, node's
        # body-parser 100 KB, OpenAI refuses by tokens long before.
        Meta(ge=1024, description="The longest request body read; longer ones get 413."),
    ] = 10 * 2**20
    max_header_bytes: Annotated[
        int,
        # nginx 32 KiB (4 x 8), Envoy 60 KiB, node.js 16 KiB, Apache 8 KiB a line.
        Meta(ge=1024, description="The longest head of a request; longer ones get 431."),
    ] = 32 * 2**10
    max_headers: Annotated[int, Meta(ge=10, description="The most header fields.")] = 100
    request_timeout_s: Annotated[
        float, Meta(gt=0, description="How long one request may take in all.")
    ] = 60.0
    max_request_timeout_s: Annotated[
        float, Meta(gt=0, description="The longest a caller may ask for with X-Request-Timeout-Ms.")
    ] = 300.0
    head_timeout_s: Annotated[
        # nginx 60 s, Kestrel 30 s, Apache 20 s, for browsers on phones; our callers are programs.
        float, Meta(gt=0, description="How long a request's head may take to come.")
    ] = 10.0
    body_timeout_s: Annotated[
        float, Meta(gt=0, description="How long its body may take to come; later ones get 408.")
    ] = 30.0
    keep_alive_s: Annotated[
        # nginx's default; longer than the 60 s after which most clients drop one.
        float, Meta(gt=0, description="How long a connection is kept between two requests.")
    ] = 75.0
    unread_timeout_s: Annotated[
        float, Meta(gt=0, description="How long a caller may read nothing of his answer.")
    ] = 60.0
    max_connections: Annotated[
        int, Meta(ge=1, description="Connections at once; more get 503 and are closed.")
    ] = 16_384
    max_requests_in_flight: Annotated[
        # 10,000 waiting requests of one text are some 200 MB; more only wait for each other.
        int, Meta(ge=1, description="Requests taken at once; more get 503 at once.")
    ] = 4096
    max_bytes_in_flight: Annotated[
        int, Meta(ge=2**20, description="Bytes of all requests taken at once, likewise.")
    ] = 512 * 2**20
    drain_s: Annotated[
        float, Meta(ge=0, description="How long requests in flight may go on after SIGTERM.")
    ] = 30.0


class LocalSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model in this process."""

    enabled: Annotated[bool, Meta(description="Whether local/wordllama-256 is served.")] = True
    batch_inputs: Annotated[
        int, Meta(ge=1, description="The most texts embedded in one go, over all callers.")
    ] = 64
    queue_inputs: Annotated[
        int, Meta(ge=2048, description="The most texts waiting; more get 503.")
    ] = 65_536


class CacheSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was embedded before is answered from here, at no cost."""

    enabled: Annotated[bool, Meta(description="Whether vectors are kept at all.")] = True
    memory_bytes: Annotated[
        int, Meta(ge=0, description="The most kept in memory, per process.")
    ] = 128 * 2**20
    disk_bytes: Annotated[
        int,
        Meta(ge=0, description="The most kept in `vectors.db`; 0: no file. Unused with Redis."),
    ] = 2 * 2**30
    ttl_s: Annotated[
        # A vector of a fixed model never gets wrong; the limit is for what callers no longer want
        # kept, since a vector tells much of its text.
        float, Meta(ge=0, description="How long a vector is kept; 0: until there is no room.")
    ] = 30 * 86_400.0
    scope: Annotated[
        Literal["project", "key", "global"],
        Meta(description="Who shares vectors: the keys of a project, nobody, or everybody."),
    ] = "project"


class LogSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written to standard error. Texts and credentials never are."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="`info` writes a line for each embedding request and each refusal."),
    ] = "warning"
    format: Annotated[
        Literal["text", "json"],
        Meta(description="`json` writes one object a line: see [logs.md](logs.md)."),
    ] = "text"


class AccountSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account at a provider: `[providers.NAME]`."""

    kind: Annotated[
        str | None, Meta(description="The provider's API; default: the table's name.")
    ] = None
    base_url: Annotated[
        str | None, Meta(description="What the provider's own SDK calls its base URL.")
    ] = None
    api_key: Annotated[
        Secret | None, Meta(description="The credential, best as `${NAME}` of a variable.")
    ] = None
    api_key_file: Annotated[str | None, Meta(description="A file holding the credential.")] = None
    private: Annotated[bool, Meta(description="Allows plain http and private addresses.")] = False
    models: Annotated[
        dict[str, str], Meta(description="Our model = the name the account knows it by.")
    ] = {}
    max_inputs: Annotated[
        _Count | None, Meta(description="Most inputs in one upstream request.")
    ] = None
    concurrency: Annotated[
        int, Meta(ge=1, description="Most upstream requests at a time; what waits is joined.")
    ] = 64
    requests_per_minute: Annotated[
        _Count | None, Meta(description="The account's limit of requests, if it has one.")
    ] = None
    tokens_per_minute: Annotated[
        _Count | None, Meta(description="The account's limit of tokens, likewise.")
    ] = None
    api_version: Annotated[
        str, Meta(description="Azure: the `api-version` of the deployments path; none: v1.")
    ] = ""
    access_token: Annotated[
        Secret | None, Meta(description="Azure, Vertex: a bearer token in place of a key.")
    ] = None
    project: Annotated[str, Meta(description="Vertex: the project's id.")] = ""
    location: Annotated[str, Meta(description="Vertex: such as `us-central1` or `global`.")] = ""
    credentials_file: Annotated[
        str | None, Meta(description="Vertex: the service account's JSON file.")
    ] = None
    region: Annotated[str, Meta(description="Bedrock: such as `us-east-1`.")] = ""
    access_key_id: Annotated[str, Meta(description="Bedrock: the id of an access key.")] = ""
    secret_access_key: Annotated[Secret | None, Meta(description="Bedrock: its secret.")] = None
    session_token: Annotated[Secret | None, Meta(description="Bedrock: with both above.")] = None


class ModelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name of your own: `[models.NAME]`, for a model of the catalogue or one you serve."""

    model: Annotated[
        str | None, Meta(description="The model of the catalogue that the name stands for.")
    ] = None
    dimensions: Annotated[
        _Count | None, Meta(description="The width of a model that no catalogue knows.")
    ] = None
    matryoshka: Annotated[
        bool, Meta(description="Whether its shorter vectors are its first numbers, renormalised.")
    ] = False
    max_input_tokens: Annotated[
        int, Meta(ge=1, description="The most tokens of one input, likewise.")
    ] = 8192
    price_usd_per_million_tokens: Annotated[
        str, Meta(description="What a million of its tokens costs, as text.")
    ] = "0"
    hedge: Annotated[
        bool, Meta(description="Whether a slow single text is asked twice; the first answer wins.")
    ] = False
    on_overlong: Annotated[
        Overlong,
        Meta(description="What becomes of an input that is too long; `mean`: of its pieces."),
    ] = "error"


class OidcSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose tokens count as keys: `[[oidc]]`, as often as needed; see [oidc.md](oidc.md)."""

    issuer: Annotated[str, Meta(description="The URL that `iss` must say, letter by letter.")]
    audience: Annotated[str, Meta(description="What `aud` must say, and nothing beside it.")]
    jwks_url: Annotated[
        str | None,
        Meta(description="Where the issuer's keys are; default: where the issuer itself says."),
    ] = None
    private: Annotated[bool, Meta(description="Allows plain http and private addresses.")] = False
    claims: Annotated[
        # Any: a claim keeps the type it is written with, so that "1" is never taken for 1.
        dict[str, Any], Meta(description="What the token must say besides; at least one claim.")
    ] = {}
    project: Annotated[
        str, Meta(description="The project of its callers: a name, or `claim:NAME` of a claim.")
    ] = "default"
    models: Annotated[
        tuple[str, ...] | None, Meta(description="Models its callers may ask for; none: all.")
    ] = None
    providers: Annotated[
        tuple[str, ...] | None, Meta(description="Accounts that may serve them; none: all.")
    ] = None
    requests_per_minute: Annotated[
        _Count | None, Meta(description="The most requests of one subject in a minute.")
    ] = None
    tokens_per_minute: Annotated[_Count | None, Meta(description="Its most tokens, likewise.")] = (
        None
    )
    concurrency: Annotated[_Count | None, Meta(description="Its most requests at a time.")] = None
    allows_fallbacks: Annotated[
        bool, Meta(description="Whether its requests may name models to fall back to.")
    ] = True
    space: Annotated[
        str | None, Meta(description="The only vector space its callers get; none: any.")
    ] = None
    budget_day: Annotated[
        str | None, Meta(description="What one subject may spend in a day of UTC, such as `5usd`.")
    ] = None
    budget_month: Annotated[str | None, Meta(description="Likewise in a month.")] = None
    budget_total: Annotated[str | None, Meta(description="Likewise for all time.")] = None


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    home: Annotated[str, Meta(description="The folder of the database and other state.")]
    server: ServerSettings = ServerSettings()
    database_url: Annotated[
        Secret | None,
        Meta(description="A PostgreSQL that keeps keys and books in place of the home folder."),
    ] = None
    redis_url: Annotated[
        Secret | None,
        Meta(
            description="A Redis for what processes share: vectors (not on disk then), keys' rates."
        ),
    ] = None
    local: LocalSettings = LocalSettings()
    cache: CacheSettings = CacheSettings()
    log: LogSettings = LogSettings()
    providers: dict[str, AccountSettings] = {}
    models: dict[str, ModelSettings] = {}
    oidc: tuple[OidcSettings, ...] = ()

    @property
    def home_path(self) -> Path:
        """`home` as a path, `~` expanded."""
        return Path(self.home).expanduser()


CREDENTIAL_NAMES: dict[str, tuple[str, ...]] = {
    # The names that the providers' own SDKs read, the first one set wins. Vercel's and Azure's are
    # not here: the one is what our own callers use, the other needs the names of deployments.
    "openai": ("OPENAI_API_KEY",),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "cohere": ("CO_API_KEY", "COHERE_API_KEY"),
    "mistral": ("MISTRAL_API_KEY",),
    "voyage": ("VOYAGE_API_KEY",),
    "jina": ("JINA_API_KEY",),
    "nomic": ("NOMIC_API_KEY",),
    "together": ("TOGETHER_API_KEY",),
    "fireworks": ("FIREWORKS_API_KEY",),
    "deepinfra": ("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"),
    "nvidia": ("NVIDIA_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "bedrock": ("AWS_BEARER_TOKEN_BEDROCK",),
}
"""Environment variables that hold a provider's credential, so that no file is needed."""
