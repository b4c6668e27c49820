import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from fl_assets.federation.deployment.pki import (
    Authority,
    ServerFiles,
    new_node_key,
    new_secret,
    write_secret,
)

NOW = datetime.now(UTC)


def shake_hands(server: ServerFiles, ca: Path, address: str = "127.0.0.1") -> None:
    """Connect as Flower's clients do, with Python's own TLS on both sides."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server.certificate, server.key)
        plain, _ = listening.accept()
        try:
            context.wrap_socket(plain, server_side=True).close()
        except OSError:
            plain.close()

    thread = Thread(target=serve)
    thread.start()
    try:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(cadata=ca.read_text())
        with socket.create_connection(listening.getsockname()) as plain:
            client.wrap_socket(plain, server_hostname=address).close()
    finally:
        thread.join()
        listening.close()


def folder(parent: Path, name: str) -> Path:
    path = parent / name
    path.mkdir()
    return path


def test_a_client_with_the_authoritys_certificate_trusts_the_server(tmp_path: Path) -> None:
    files = Authority().issue(tmp_path)
    shake_hands(files, files.ca)


def test_another_authority_is_not_trusted_although_it_has_the_same_name(tmp_path: Path) -> None:
    ours = Authority().issue(folder(tmp_path, "ours"))
    theirs = Authority().issue(folder(tmp_path, "theirs"))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(theirs, ours.ca)


def test_another_address_is_not_trusted(tmp_path: Path) -> None:
    files = Authority().issue(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shake_hands(files, files.ca, "127.0.0.2")


@pytest.mark.parametrize(
    ("begin", "end", "why"),
    [(-2, -1, "expired"), (1, 2, "not yet valid")],
)
def test_a_certificate_is_good_for_its_time_only(
    tmp_path: Path, begin: int, end: int, why: str
) -> None:
    authority = Authority(NOW + timedelta(hours=begin), NOW + timedelta(hours=end))
    files = authority.issue(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        shake_hands(files, files.ca)


def test_a_certificate_lives_for_days_and_cannot_sign_others(tmp_path: Path) -> None:
    files = Authority().issue(tmp_path)
    found = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert timedelta(days=1) < found.not_valid_after_utc - NOW < timedelta(days=8)
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_node_is_known_by_a_key_on_p384(tmp_path: Path) -> None:
    public = new_node_key(tmp_path / "node.key")
    private = load_ssh_private_key((tmp_path / "node.key").read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert isinstance(private.curve, ec.SECP384R1)
    assert private.public_key() == public


def test_nobody_else_can_read_a_secret(tmp_path: Path) -> None:
    files = Authority().issue(tmp_path)
    new_node_key(tmp_path / "node.key")
    new_secret(tmp_path / "one.secret")
    new_secret(tmp_path / "two.secret")
    for path in (files.key, *tmp_path.glob("node.key"), *tmp_path.glob("*.secret")):
        assert path.stat().st_mode & 0o777 == 0o600, path
    secrets = {path.read_bytes() for path in tmp_path.glob("*.secret")}
    assert sorted(map(len, secrets)) == [32, 32]


def test_a_secret_is_not_put_into_a_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "open").touch(0o666)
    with pytest.raises(FileExistsError):
        write_secret(tmp_path / "open", b"secret")
    assert (tmp_path / "open").read_bytes() == b""
