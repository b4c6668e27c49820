"""Keys and certificates of one deployment, made on the spot."""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK = "127.0.0.1"

# Longer than any run, and short enough that a forgotten key is soon worth nothing.
LIFETIME = timedelta(days=7)
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class ServerFiles:
    """What a server needs for TLS.

    Attributes:
        ca: certificate of the authority, PEM; all that a client needs.
        certificate, key: of the server, PEM; the key is readable by its owner alone.
    """

    ca: Path
    certificate: Path
    key: Path


class Authority:
    """A certificate authority that lives in memory, so that nobody can use it later.

    Args:
        not_before, not_after: how long what it signs is valid; a week from now by default.
    """

    def __init__(
        self, not_before: datetime | None = None, not_after: datetime | None = None
    ) -> None:
        now = datetime.now(UTC)
        self._not_before = not_before or now - _CLOCK_SKEW
        self._not_after = not_after or now + LIFETIME
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("fl_assets deployment")
        self._certificate = (
            self._signing(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, folder: Path, *addresses: str) -> ServerFiles:
        """Write a certificate and key for a server, and the authority's own certificate.

        Args:
            folder: where they go.
            addresses: of the server; loopback always is one.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address(a)) for a in (LOOPBACK, *addresses)]
        )
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            self._signing(_name("superlink"), key.public_key())
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = ServerFiles(folder / "ca.pem", folder / "server.pem", folder / "server.key")
        files.ca.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        write_secret(
            files.key,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        return files

    def _signing(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._not_before)
            .not_valid_after(self._not_after)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )


def new_node_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Write the private key (EC P-384, OpenSSH) by which a SuperNode is known; return its twin."""
    key = ec.generate_private_key(ec.SECP384R1())
    write_secret(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ),
    )
    return key.public_key()


def new_secret(path: Path) -> Path:
    """Write a random secret, as SuperExecs share one with their SuperLink or SuperNode."""
    write_secret(path, secrets.token_bytes(32))
    return path


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file that nobody else can read, not even while it is written.

    Raises:
        FileExistsError: it is there; its mode may be any.
    """
    path.touch(0o600, exist_ok=False)
    path.write_bytes(data)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
