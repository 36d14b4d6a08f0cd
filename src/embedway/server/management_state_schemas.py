"""The answers of `/v1/management/providers` and `/v1/management/settings`, as types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from embedway.server.catalogue_schemas import EndpointHealth, EndpointStatus
from embedway.server.schemas import Body, Count


class AccountLimits(Body, frozen=True):
    """What the operator allows at most; null without a limit."""

    max_inputs: Count | None
    concurrency: Count | None
    requests_per_minute: Count | None
    tokens_per_minute: Count | None


class AccountDeployment(Body, frozen=True):
    """How one model of the account fares."""

    model: str
    status: EndpointStatus
    health: EndpointHealth


class ProviderAccount(Body, frozen=True):
    """One account at a provider, without its credentials."""

    id: str
    object: Literal["provider"]
    name: Annotated[str, Meta(description="The provider's API.")]
    base_url: Annotated[
        str | None, Meta(description="Without user, password and query; null in this process.")
    ]
    configured: Annotated[bool, Meta(description="Whether there is a credential in the settings.")]
    status: Annotated[
        Literal["up", "degraded", "down", "idle"],
        Meta(description="Whether all, some or none of its deployments are in use; idle: none."),
    ]
    limits: AccountLimits
    models: list[str]
    deployments: list[AccountDeployment]


class ProviderList(Body, frozen=True):
    """The accounts, in the order of the settings."""

    object: Literal["list"]
    data: list[ProviderAccount]


class Setting(Body, frozen=True):
    """One setting as it is in effect; a secret is three stars."""

    name: str
    value: str | int | float | bool | list[Any] | dict[str, Any] | None
    origin: Annotated[
        str, Meta(description="A file's path, environment NAME, command line, or default.")
    ]


class SettingList(Body, frozen=True):
    """All of them, by dotted name."""

    object: Literal["list"]
    data: list[Setting]
