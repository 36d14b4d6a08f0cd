"""Names to models: canonical names, bare names, the operator's aliases; and, where a name leads
nowhere, why and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from embedway.catalog import Catalog, Model, Offer
from embedway.errors import ModelNotFound
from embedway.settings import CREDENTIAL_NAMES


class Entry(Struct, frozen=True):
    """What a name means. `others`: what else it could have meant, being bare and ambiguous."""

    model: Model
    others: tuple[str, ...] = ()
    is_bare: bool = False


class Directory:
    """Looks names up. Raises ModelNotFound with a message that says what to do.

    served: canonical names of the models that an account here, or this process, serves.
    """

    def __init__(
        self, catalog: Catalog, aliases: Mapping[str, str], served: frozenset[str]
    ) -> None:
        self.catalog = catalog
        self.served = served
        self._aliases = dict(aliases)
        self._entries: dict[str, Entry] = {}
        for model in reversed(catalog.models):
            others = self._entries.get(model.bare_name, Entry(model)).others
            if model.bare_name in self._entries:
                others = (self._entries[model.bare_name].model.id, *others)
            self._entries[model.bare_name] = Entry(model, others, is_bare=True)
        for model in catalog.models:
            self._entries[model.id] = Entry(model)
        for alias, target in self._aliases.items():
            if alias in self._entries:
                raise ValueError(f"the alias {alias!r} is the name of a model")
            if (entry := self._entries.get(target)) is None:
                raise ValueError(f"the alias {alias!r} stands for {target!r}, which is no model")
            self._entries[alias] = Entry(entry.model)

    def look_up(self, name: str) -> Entry:
        """The entry of *name*, whether or not anybody serves the model."""
        if (entry := self._entries.get(name)) is None:
            raise self._unknown(name)
        return entry

    def look_up_served(self, name: str) -> Entry:
        """The entry of *name*, of a model that is served here."""
        entry = self.look_up(name)
        if entry.model.id not in self.served:
            raise self._unserved(name, entry.model)
        return entry

    def canonical(self, name: str) -> str:
        """The canonical name, or *name* itself if it is unknown."""
        entry = self._entries.get(name)
        return entry.model.id if entry else name

    def listed(self) -> tuple[Model, ...]:
        """The served models, in the catalogue's order, for `GET /v1/models`."""
        return tuple(model for model in self.catalog.models if model.id in self.served)

    def _unknown(self, name: str) -> ModelNotFound:
        lower = name.lower()
        if lower.startswith(("anthropic/", "claude")) or "/claude" in lower:
            return ModelNotFound(
                f"Anthropic has no embedding models, so {_quote(name)} cannot be served. "
                "Use a model of OpenAI, Google, Cohere or Mistral; GET /v1/models lists them.",
                model=name,
            )
        if retired := self.catalog.find_retired(name):
            return ModelNotFound(
                f"{retired.id} was shut down by {retired.provider} on {retired.shutdown_date}. "
                f"Its successor is {retired.successor}, whose vectors live in another space: "
                "embed your texts again before you mix them.",
                model=name,
            )
        nearest = self.catalog.nearest(name)
        hint = f" Did you mean {nearest}?" if nearest else ""
        return ModelNotFound(
            f"The model {_quote(name)} does not exist.{hint} GET /v1/models lists the models.",
            model=name,
        )

    def _unserved(self, name: str, model: Model) -> ModelNotFound:
        told = [_shutdown(offer) for offer in model.offers if offer.is_shut_down]
        providers = [offer.provider for offer in model.live_offers]
        ways = [
            f"{variable} for {provider}"
            for provider in providers
            for variable in CREDENTIAL_NAMES.get(provider, ())[:1]
        ]
        if ways:
            told.append(f"Set {' or '.join(ways)} and start the gateway again.")
        elif providers:
            told.append(f"Configure an account at {' or '.join(providers)}.")
        return ModelNotFound(
            f"No account of this gateway serves {model.id}. {' '.join(told)}".strip(), model=name
        )


def _shutdown(offer: Offer) -> str:
    after = f"; its successor there is {offer.successor}" if offer.successor else ""
    return f"{offer.provider} shut it down on {offer.shutdown_date}{after}."


def _quote(name: str) -> str:
    """The caller's own word, at a length that fits a message."""
    return repr(name if len(name) <= 100 else f"{name[:100]}…")
