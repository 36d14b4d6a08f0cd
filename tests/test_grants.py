"""Nobody gives a key what he does not have himself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.errors import PermissionDenied
from embedway.grants import Terms, grant_of, within
from embedway.store.keys import Key
from embedway.types import NO_RATES, Grant, Rates

ADMIN = Grant.open()


def make_key(**changes):
    """A key without limits."""
    return Key(**{"id": "i", "name": "n", "type": "prod", "hash": b"", "created_ms": 0, **changes})


def test_grant_of_a_free_key():
    """A key without limits gives a grant without limits, which is no admin's."""
    assert grant_of(make_key()) == Grant(key_id="i", name="n")
    assert grant_of(make_key()).rates is NO_RATES
    assert grant_of(make_key(type="admin")).is_admin


def test_grant_of_a_key_with_terms():
    """Every term of a key is in its grant."""
    terms = {
        "models": ("small",),
        "project": "p",
        "allows_fallbacks": False,
        "space": "s@1",
        "providers": ("openai",),
        "ips": ("10.0.0.0/8",),
        "expires_ms": 9,
    }
    rates = {"requests_per_minute": 1, "tokens_per_minute": 2, "concurrency": 3}

    grant = grant_of(make_key(**terms, **rates))
    assert grant == Grant(key_id="i", name="n", rates=Rates(**rates), **terms)
    for field, limit in rates.items():
        assert grant_of(make_key(**{field: limit})).rates == Rates(**{field: limit})


@pytest.mark.parametrize("type", ["prod", "dev", "admin"])
def test_an_admin_without_limits(type):
    """An admin without limits gives whatever he likes."""
    within(ADMIN, Terms(type=type, project="any"), budgets={})
    within(ADMIN, Terms(type=type, models=(), budgets={"day": 10**18}), budgets={})


OWN = Grant(
    key_id="i",
    name="n",
    project="team",
    models=("small", "large"),
    providers=("openai", "azure"),
    ips=("10.0.0.0/8",),
    expires_ms=1000,
    allows_fallbacks=False,
    space="m@256",
    rates=Rates(requests_per_minute=60, tokens_per_minute=1000, concurrency=4),
)
OWN_BUDGETS = {"day": 10, "total": 100}
SAME = {
    "type": "prod",
    "project": "team",
    "models": ("small", "large"),
    "providers": ("openai", "azure"),
    "ips": ("10.0.0.0/8",),
    "expires_ms": 1000,
    "allows_fallbacks": False,
    "space": "m@256",
    "rates": Rates(requests_per_minute=60, tokens_per_minute=1000, concurrency=4),
    "budgets": {"day": 10, "total": 100},
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"type": "dev"},
        {"models": ("small",)},
        {"models": ()},
        {"providers": ("azure",)},
        {"ips": ("10.1.0.0/16", "10.2.3.4/32")},
        {"ips": ()},
        {"expires_ms": 1},
        {"space": "m@256+query"},
        {"rates": Rates(requests_per_minute=1, tokens_per_minute=1, concurrency=1)},
        {"budgets": {"day": 0, "total": 100, "month": 10**18}},
    ],
)
def test_as_much_or_less(changes):
    """Whoever has limits gives what he has, or less."""
    within(OWN, Terms(**{**SAME, **changes}), budgets=OWN_BUDGETS)


RATES = {"requests_per_minute": 60, "tokens_per_minute": 1000, "concurrency": 4}
MORE = [
    ("allowed_models", {"models": None}),
    ("allowed_models", {"models": ("small", "other")}),
    ("allowed_models", {"models": ("Small",)}),
    ("allowed_providers", {"providers": None}),
    ("allowed_providers", {"providers": ("openai", "cohere")}),
    ("allowed_ips", {"ips": None}),
    ("allowed_ips", {"ips": ("10.0.0.0/7",)}),
    ("allowed_ips", {"ips": ("10.1.0.0/16", "11.0.0.1/32")}),
    ("expires_at", {"expires_ms": None}),
    ("expires_at", {"expires_ms": 1001}),
    ("allow_fallbacks", {"allows_fallbacks": True}),
    ("space", {"space": None}),
    ("space", {"space": "m@512"}),
    ("space", {"space": "m@2560"}),
    *[(f"rate_limits.{name}", {"rates": Rates(**{**RATES, name: None})}) for name in RATES],
    *[
        (f"rate_limits.{name}", {"rates": Rates(**{**RATES, name: RATES[name] + 1})})
        for name in RATES
    ],
    ("budgets.day", {"budgets": {"total": 100}}),
    ("budgets.day", {"budgets": {"day": 11, "total": 100}}),
    ("budgets.total", {"budgets": {"day": 10}}),
    ("budgets.total", {"budgets": {"day": 10, "total": 101}}),
]


@pytest.mark.parametrize("is_admin", [False, True])
@pytest.mark.parametrize(("field", "changes"), MORE)
def test_more(is_admin, field, changes):
    """Whoever has a limit gives no more, be he an admin or not, and is told the field."""
    grantor = Grant(
        **{name: getattr(OWN, name) for name in OWN.__struct_fields__ if name != "is_admin"},
        is_admin=is_admin,
    )
    with pytest.raises(PermissionDenied) as caught:
        within(grantor, Terms(**{**SAME, **changes}), budgets=OWN_BUDGETS)

    assert (caught.value.status, caught.value.param) == (403, field)
    assert caught.value.message.startswith(f"{field}: no key can be given more")


@pytest.mark.parametrize(
    ("field", "changes"), [("type", {"type": "admin"}), ("project", {"project": "other"})]
)
def test_what_admins_alone_give(field, changes):
    """Only an admin makes admins, and keys of other projects."""
    with pytest.raises(PermissionDenied) as caught:
        within(Grant(key_id="i", name="n"), Terms(**changes), budgets={})

    assert caught.value.param == field
    within(Grant(key_id="i", name="n", is_admin=True), Terms(**changes), budgets={})


LIMITS = st.none() | st.integers(1, 3)
NAMES = st.none() | st.lists(st.sampled_from("abc"), unique=True).map(tuple)
KEYS = st.fixed_dictionaries(
    {
        "models": NAMES,
        "providers": NAMES,
        "expires_ms": LIMITS,
        "allows_fallbacks": st.booleans(),
        "requests_per_minute": LIMITS,
        "tokens_per_minute": LIMITS,
        "concurrency": LIMITS,
    }
)


def terms_of(key):
    """The terms that a key has."""
    grant = grant_of(make_key(**key))
    names = ("models", "providers", "expires_ms", "allows_fallbacks", "rates")
    return Terms(**{name: getattr(grant, name) for name in names})


def is_given(own, wanted):
    """Whether one key's terms can be given by another."""
    try:
        within(grant_of(make_key(**own)), terms_of(wanted), budgets={})
    except PermissionDenied:
        return False
    return True


@given(KEYS, KEYS, KEYS)
def test_handed_on(first, second, third):
    """What is given, and given on by whoever got it, the first could have given himself; and each
    could give all that he has."""
    assert is_given(first, first)
    if is_given(first, second) and is_given(second, third):
        assert is_given(first, third)
