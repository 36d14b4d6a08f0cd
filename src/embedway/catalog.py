"""Facts about models: dimensions, limits, prices, and who offers them.

The facts are data (`catalog.toml`), which `catalog_file.py` reads and checks. A fact that is true
of the model wherever it runs stands in `Model`; one that depends on who serves it stands in
`Offer`; `Kind` holds what is known of a self-hosted server whatever model it runs.
"""

from __future__ import annotations

import difflib
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct, ValidationError, convert

from embedway.money import picodollars

InputType = Literal["query", "document"]
Normalised = Literal["always", "approximately", "only_full", "never", "unknown"]
Overlong = Literal["reject", "reject_if_asked", "truncate", "unknown"]
Status = Literal["current", "legacy", "unverified", "shut_down"]
Count = Annotated[int, Meta(ge=1)]
Text = Annotated[str, Meta(min_length=1)]
Url = Annotated[str, Meta(pattern=r"^https://\S+$")]
Sources = Annotated[tuple[Url, ...], Meta(min_length=1)]
ModelId = Annotated[  # creator/model; it stands in headers, so it is one line of ASCII
    str, Meta(pattern=r"\A[A-Za-z0-9_.-]+/[A-Za-z0-9_.:-]+(/[A-Za-z0-9_.:-]+)*\Z")
]

LONGEST_NAME = 256  # difflib is quadratic, and no model has so long a name


def is_model_id(name: str) -> bool:
    """Whether *name* has the form `creator/model`."""
    try:
        convert(name, ModelId)
    except ValidationError:
        return False
    return True


class Dimensions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many numbers a vector has: a list of counts, or a range."""

    default: Count
    allowed: tuple[Count, ...] = ()  # ascending; empty when the range below is given
    minimum: Count | None = None
    maximum: Count | None = None
    recommended: tuple[Count, ...] = ()
    cut: bool = False  # documented: the first n numbers, renormalised, are the vector of n

    def allows(self, count: int) -> bool:
        """Whether the model makes vectors of *count* numbers."""
        if self.minimum is not None and self.maximum is not None:
            return self.minimum <= count <= self.maximum
        return count in self.allowed


class InputTypeField(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one provider is told whether a text is a query or a document."""

    param: Text | None = None  # the field's path in the request; none: put before the text
    query: Text
    document: Text
    others: tuple[str, ...] = ()  # further values of the provider's own

    def value(self, input_type: str) -> str | None:
        """What to send for *input_type*, which may be the provider's own word; None: unknown."""
        if input_type == "query":
            return self.query
        if input_type == "document":
            return self.document
        return input_type if input_type in (self.query, self.document, *self.others) else None


class Offer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider's offer of a model. None means: not documented, or no such limit."""

    provider: Text
    upstream_id: Text | None = None  # none: the operator names it (an Azure deployment)
    price_usd_per_million_tokens: str | None = None  # decimal text, exact
    price_usd_per_million_characters: str | None = None
    max_inputs: Count | None = None
    max_tokens_per_request: Count | None = None
    max_input_tokens: Count | None = None  # where the provider allows less than the model
    max_input_characters: Count | None = None
    dimensions_param: Text | None = None  # the provider's field for shorter vectors
    input_type: InputTypeField | None = None
    on_overlong: Overlong = "unknown"  # what an input above the limit meets
    token_arrays: bool = False  # takes cl100k token ids in place of text
    tokens_from: Text | None = None  # where the provider reports the tokens it counted
    normalised: Normalised | None = None  # where it differs from the model's
    output_dtypes: tuple[Text, ...] = ("float",)
    status: Status = "current"
    retires_after: date | None = None  # announced; the offer works until then
    shutdown_date: date | None = None  # it happened
    successor: Text | None = None  # id of the model to move to
    source: Sources
    checked: date
    notes: str = ""

    @property
    def is_shut_down(self) -> bool:
        """Whether the provider no longer serves the model."""
        return self.status == "shut_down"

    @property
    def price_picodollars_per_token(self) -> int | None:
        """The price of one token in 1e-12 USD; None where tokens have no known price."""
        return picodollars(self.price_usd_per_million_tokens)

    @property
    def price_picodollars_per_character(self) -> int | None:
        """The price of one character in 1e-12 USD; None where characters are not billed."""
        return picodollars(self.price_usd_per_million_characters)


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes the vectors, whoever serves it."""

    id: ModelId
    name: Text
    description: Text
    released: date | None = None
    listed: date  # when the catalogue took it in
    dimensions: Dimensions
    max_input_tokens: Count
    input_types: tuple[InputType, ...] = ()  # empty: it cannot be told one
    input_type_default: InputType | None = None  # sent when the caller gives none
    input_type_in_space: bool = False  # the input type changes the vector
    normalised: Normalised
    tokenizer: Text | None = None  # none: only the provider can count
    revision: Text | None = None
    space: Text | None = None  # shared by models whose vectors may be compared
    offers: tuple[Offer, ...]

    @property
    def creator(self) -> str:
        """The part of the id before the first slash."""
        return self.id.partition("/")[0]

    @property
    def bare_name(self) -> str:
        """The part of the id after the first slash; may hold slashes itself."""
        return self.id.partition("/")[2]

    @property
    def created(self) -> int:
        """Unix seconds of the release, or of the listing where the release is not known."""
        day = self.released or self.listed
        return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())

    @property
    def space_name(self) -> str:
        """The name of the vector space, without dimensions: models that share it may be mixed."""
        return self.space or self.id

    @property
    def live_offers(self) -> tuple[Offer, ...]:
        """The offers that are not shut down, in the catalogue's order."""
        return tuple(offer for offer in self.offers if not offer.is_shut_down)

    def offer(self, provider: str) -> Offer | None:
        """The offer of *provider*, shut down or not."""
        return next((offer for offer in self.offers if offer.provider == provider), None)

    def allows_dimensions(self, count: int) -> bool:
        """Whether the model makes vectors of *count* numbers."""
        return self.dimensions.allows(count)

    @property
    def allowed_text(self) -> str:
        """The allowed dimensions for a message: "1536", "64, 128 or 256", "1 to 1536"."""
        if self.dimensions.minimum is not None:
            return f"{self.dimensions.minimum} to {self.dimensions.maximum}"
        *most, last = map(str, self.dimensions.allowed)
        return f"{', '.join(most)} or {last}" if most else last

    def shorter_from(self, offer: Offer) -> Literal["native", "cut"] | None:
        """Where a shorter vector comes from: the provider's field, a cut here, or nowhere."""
        if offer.dimensions_param is not None:
            return "native"
        return "cut" if self.dimensions.cut else None


class Retired(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that nobody serves any more; kept so that the refusal can help."""

    id: ModelId
    provider: Text
    shutdown_date: date
    successor: Text
    source: Sources
    checked: date
    notes: str = ""


class Kind(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A self-hosted server: what is known of it whatever model it runs."""

    name: Text
    price_usd_per_million_tokens: str
    max_inputs: Count | None = None
    dimensions_param: Text | None = None
    on_overlong: Overlong
    token_arrays: bool = False  # takes ids of the served model's own tokenizer, not cl100k
    normalised: Normalised
    source: Sources
    checked: date
    notes: str = ""


class Found(Struct, frozen=True):
    """What a name means, and which other models it could have meant."""

    model: Model
    others: tuple[str, ...] = ()


class Catalog(Struct, frozen=True, kw_only=True):
    """All models in the order of the file, which is the order of preference for bare names."""

    models: tuple[Model, ...]
    retired: tuple[Retired, ...] = ()
    kinds: tuple[Kind, ...] = ()

    def find(self, name: str) -> Found | None:
        """The model called *name*: its whole id first, else its bare name; case counts."""
        for model in self.models:
            if model.id == name:
                return Found(model)
        matches = [model for model in self.models if model.bare_name == name]
        return Found(matches[0], tuple(model.id for model in matches[1:])) if matches else None

    def find_retired(self, name: str) -> Retired | None:
        """The retired model called *name*, by its whole id or its bare name."""
        return next((r for r in self.retired if name in (r.id, r.id.partition("/")[2])), None)

    def kind(self, name: str) -> Kind | None:
        """The self-hosted server called *name*."""
        return next((kind for kind in self.kinds if kind.name == name), None)

    def nearest(self, name: str) -> str | None:
        """A name that *name* may be a slip for, bare if *name* is bare; None if nothing is near."""
        if len(name) > LONGEST_NAME:
            return None
        bare = "/" not in name
        known = {(m.bare_name if bare else m.id).lower(): m for m in self.models}
        close = difflib.get_close_matches(name.lower(), known, n=1)
        if not close:
            return None
        return known[close[0]].bare_name if bare else known[close[0]].id
