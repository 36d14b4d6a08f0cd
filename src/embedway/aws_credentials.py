"""AWS credentials from where every AWS tool finds them: environment, shared files, roles.

botocore (the extra `bedrock`) knows that chain and renews what expires. It asks the machine's own
metadata service by itself where that is the source.
"""

from __future__ import annotations

import asyncio
from typing import Any

from embedway.errors import UpstreamUnauthorized
from embedway.provider import AccessKey
from embedway.secret import Secret


class AwsChain:
    """Call it for the access key that is valid now."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._credentials: Any = None

    async def __call__(self) -> AccessKey:
        """The access key. Raises UpstreamUnauthorized if the chain finds none."""
        return await asyncio.to_thread(self._find)

    def _find(self) -> AccessKey:
        """Blocking: files are read, and a role may be asked."""
        try:
            from botocore.exceptions import BotoCoreError
            from botocore.session import get_session
        except ImportError:
            raise self._refusal("install embedway[bedrock] to use AWS's own chain") from None
        try:
            self._credentials = self._credentials or get_session().get_credentials()
            if self._credentials is None:
                raise self._refusal("AWS's chain of credentials is empty")
            frozen = self._credentials.get_frozen_credentials()
        except BotoCoreError as error:  # a profile that is not there, a role that is refused
            raise self._refusal(f"AWS's chain failed ({type(error).__name__})") from None
        return AccessKey(
            id=frozen.access_key,
            secret=Secret(frozen.secret_key),
            session_token=Secret(frozen.token) if frozen.token else None,
        )

    def _refusal(self, reason: str) -> UpstreamUnauthorized:
        return UpstreamUnauthorized(
            f"The account {self._account} has no credential: {reason}. Set api_key, or "
            "access_key_id and secret_access_key.",
            provider=self._account,
        )
