"""TLS for a place on loopback: an authority of our own, and certificates that it has signed."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_KEY = ec.generate_private_key(ec.SECP256R1())
_AUTHORITY = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the tests")])


@cache
def server_context(host: str, *, is_expired: bool = False) -> ssl.SSLContext:
    """What a server of that name shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    key = _KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with TemporaryDirectory() as folder:  # the standard library reads certificates from files only
        file = Path(folder) / "chain.pem"
        file.write_bytes(key + _signed(host, is_expired=is_expired))
        context.load_cert_chain(file)
    return context


@cache
def client_context() -> ssl.SSLContext:
    """Trusts the authority, and nobody else."""
    return ssl.create_default_context(cadata=_signed("authority", is_authority=True).decode())


def _signed(host: str, *, is_expired: bool = False, is_authority: bool = False) -> bytes:
    now = datetime.now(UTC)
    end = now - timedelta(days=1) if is_expired else now + timedelta(days=1)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    key = _KEY.public_key()
    usage = x509.KeyUsage(
        True, False, False, False, False, is_authority, is_authority, False, False
    )
    signed = (
        x509.CertificateBuilder()
        .subject_name(_AUTHORITY if is_authority else subject)
        .issuer_name(_AUTHORITY)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(_KEY, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM)
