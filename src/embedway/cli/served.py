"""What the settings make of the catalogue, without opening anything: no model, no database."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from embedway.accounts import served_models
from embedway.catalog import Catalog
from embedway.directory import Directory
from embedway.gateway import LOCAL_MODEL
from embedway.own_models import aliases, with_own_models
from embedway.settings import Settings
from embedway.wrong_settings import SettingsError


class Served(Struct, frozen=True):
    """Who serves what."""

    directory: Directory
    accounts: Mapping[str, tuple[str, ...]]
    """Canonical model name to the accounts that serve it."""

    def models_of(self, account: str) -> tuple[str, ...]:
        """The models that *account* serves."""
        return tuple(model for model, names in self.accounts.items() if account in names)


def look_around(settings: Settings, catalog: Catalog) -> Served:
    """Raises SettingsError if an account or alias makes no sense."""
    catalog = with_own_models(settings, catalog)
    accounts: dict[str, tuple[str, ...]] = {}
    if settings.local.enabled:
        accounts[LOCAL_MODEL] = ("local",)
    for deployment in (one.deployment for one in served_models(settings, catalog)):
        accounts[deployment.model] = (*accounts.get(deployment.model, ()), deployment.name)
    try:
        directory = Directory(catalog, aliases(settings), frozenset(accounts))
        return Served(directory, accounts)
    except ValueError as error:
        raise SettingsError(f"models: {error}") from None
