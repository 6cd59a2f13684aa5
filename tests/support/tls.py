"""Certificates for tests: a CA, what it signs for 127.0.0.1 and for clients, and a server with one."""

import contextlib
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.raw_server import Script, Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """A certificate and its key in PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A CA of its own; every certificate that it makes is good for 127.0.0.1, localhost and clients."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("test CA")
        builder = _builder(self._name, self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = folder / "ca.pem"
        self.file.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))

    def issue(self, name: str, *hosts: str) -> Certified:
        """Sign a certificate for 127.0.0.1, localhost and these hosts; returns its files."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [_alternative(host) for host in ("127.0.0.1", "localhost", *hosts)]
        builder = _builder(_name(name), self._name, key.public_key()).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        made = Certified(
            certificate=self._folder / f"{name}.pem", key=self._folder / f"{name}-key.pem"
        )
        made.certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return made


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def with_tls(server: Certified, script: Script, *, client_ca: Path | None = None) -> Script:
    """Return a script that shakes hands first; with `client_ca` it wants a certificate of the client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED

    def run(sock: socket.socket, wire: Wire) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
            script(tls, wire)

    return run
