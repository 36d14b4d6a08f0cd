"""How an account signs in, in words that give nothing away."""

from __future__ import annotations

from embedway.origins import Origins
from embedway.settings import AccountSettings

_SECRETS = ("api_key", "access_token", "secret_access_key")


def describe_credential(name: str, account: AccountSettings, loaded: Origins) -> str | None:
    """Where the credential of the account *name* comes from and how it ends, such as
    `OPENAI_API_KEY ····3kQ9`; None if it has none."""
    for field in _SECRETS:
        if (secret := getattr(account, field)) is not None:
            is_file = field == "api_key" and account.api_key_file is not None
            origin = loaded.origin(f"providers.{name}.{field}{'_file' if is_file else ''}")
            return f"{origin.removeprefix('environment ')} {secret.hint()}".rstrip()
    return account.credentials_file
