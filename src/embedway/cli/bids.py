"""What each offer of the catalogue asks for texts that were measured."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from msgspec import Struct

from embedway.catalog import Catalog, Model, Offer
from embedway.cli.measure import Measured
from embedway.money import usd_text
from embedway.settings import Settings

_MILLION = 10**6


class Bid(Struct, frozen=True, kw_only=True):
    """One provider's price for all texts, with one model."""

    model: str
    provider: str
    cost: int
    """Picodollars."""
    tokens: int
    is_estimated: bool
    """Whether only the provider can count the tokens."""
    characters: int | None
    """What is billed in place of tokens; None where tokens are."""
    price: int
    """Picodollars for a token, or for a character."""
    checked: date | None
    """The day on which the price was read at its source; None where the operator set it."""
    too_long: int
    """Texts that the model does not take whole."""

    @property
    def is_exact(self) -> bool:
        """Whether the provider will bill just that."""
        return self.price == 0 or self.characters is not None or not self.is_estimated

    def record(self) -> dict[str, str | int | bool | None]:
        """For programs: money as decimal USD, days as 2026-11-21."""
        return {
            "model": self.model,
            "provider": self.provider,
            "cost": usd_text(self.cost),
            "is_exact": self.is_exact,
            "tokens": self.tokens,
            "tokens_are_estimated": self.is_estimated,
            "characters": self.characters,
            "price_usd_per_million": usd_text(self.price * _MILLION),
            "price_unit": "token" if self.characters is None else "character",
            "price_checked": self.checked.isoformat() if self.checked else None,
            "too_long": self.too_long,
        }


def all_bids(measured: Measured, catalog: Catalog, settings: Settings) -> list[Bid]:
    """Of every offer that has a price and is still served, the cheapest first."""
    bids = (bid for model in catalog.models for bid in _bids(model, measured, settings))
    return sorted(bids, key=lambda bid: bid.cost)


def _bids(model: Model, measured: Measured, settings: Settings) -> Iterator[Bid]:
    lengths = measured.counted.get(model.tokenizer or "")
    own = settings.models.get(model.id)
    is_operators = own is not None and own.price_usd_per_million_tokens is not None
    for offer in model.live_offers:
        if (found := _price(offer)) is None:
            continue
        price, is_per_token = found
        used = lengths or measured.estimated
        yield Bid(
            model=model.id,
            provider=offer.provider,
            cost=price * (used.tokens if is_per_token else measured.characters),
            tokens=used.tokens,
            is_estimated=lengths is None,
            characters=None if is_per_token else measured.characters,
            price=price,
            checked=None if is_operators else offer.checked,
            too_long=used.longer_than(offer.max_input_tokens or model.max_input_tokens),
        )


def _price(offer: Offer) -> tuple[int, bool] | None:
    """Picodollars, and whether for a token; characters are billed where tokens have no price."""
    if (price := offer.price_picodollars_per_token) is not None:
        return price, True
    if (price := offer.price_picodollars_per_character) is not None:
        return price, False
    return None
