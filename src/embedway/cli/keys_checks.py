"""Whether the terms of a key fit this gateway: a slip would make a key that is good for nothing."""

from __future__ import annotations

from embedway.catalog_file import load_catalog
from embedway.cli.served import look_around
from embedway.cli.stop import WRONG_USAGE, Stop
from embedway.errors import ModelNotFound
from embedway.settings import Settings
from embedway.spaces import is_possible_space


def refuse_unknown_models(names: tuple[str, ...], settings: Settings) -> None:
    """Each is the name or alias of a model. Raises Stop."""
    directory = look_around(settings, load_catalog()).directory
    for name in names:
        try:
            directory.look_up(name)
        except ModelNotFound as error:
            raise Stop(f"--models: {error}", WRONG_USAGE) from None


def refuse_unknown_providers(names: tuple[str, ...], settings: Settings) -> None:
    """Each is an account that is configured here. Raises Stop."""
    known = (*settings.providers, *(("local",) if settings.local.enabled else ()))
    for name in names:
        if name not in known:
            raise Stop(
                f"--providers: there is no account {name!r} here; there is "
                f"{', '.join(known) or 'none'}",
                WRONG_USAGE,
            )


def refuse_unknown_space(text: str, settings: Settings) -> None:
    """It is a space that a model here has. Raises Stop."""
    models = look_around(settings, load_catalog()).directory.catalog.models
    if is_possible_space(models, text):
        return
    raise Stop(
        f"--space: no model here gives vectors in {text!r}; a space is a model and its dimensions, "
        "such as openai/text-embedding-3-small@1536",
        WRONG_USAGE,
    )
