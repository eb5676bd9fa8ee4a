"""Certificates made for a test: an authority, and certificates that it signed."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificate:
    """Paths of a PEM certificate and its key."""

    cert: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """An authority that signs what a test asks for."""

    directory: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    identifies_itself: bool = True

    @property
    def bundle(self) -> Path:
        return self.directory / "ca.pem"

    def sign(self, name: str, *hosts: str) -> Certificate:
        """A certificate for host names and addresses, valid for server and client use."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [_alternative(host) for host in hosts]
        built = _builder(name, self.certificate.subject, key).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        if self.identifies_itself:
            built = built.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        return self._write(name, built.sign(self.key, hashes.SHA256()), key)

    def self_signed(self, name: str, *hosts: str) -> Certificate:
        """A certificate that no other authority vouches for; kept in the authority's folder."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        built = _builder(name, subject, key).add_extension(
            x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False
        )
        return self._write(name, built.sign(key, hashes.SHA256()), key)

    def server_tls(self, *hosts: str, ask_clients: bool = False) -> ssl.SSLContext:
        """Return the context of a server with a certificate for ``hosts``; with ``ask_clients`` it wants theirs."""
        certificate = self.sign("server", *hosts)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate.cert, certificate.key)
        if ask_clients:
            context.load_verify_locations(self.bundle)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Certificate:
        files = Certificate(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        files.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(_pem(key))
        return files


def authority(directory: Path, name: str = "test authority") -> Authority:
    """Make an authority; its bundle is ``ca.pem`` in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = (
        _builder(name, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False),
            critical=True,
        )
    )
    certificate = built.sign(key, hashes.SHA256())
    made = Authority(directory, certificate, key)
    made.bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return made


def careless_authority(directory: Path) -> Authority:
    """Make an authority as many clusters have one: no key usage, and no identifier of its key in what it signs."""
    directory.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "careless authority")])
    built = _builder("careless authority", subject, key).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    made = Authority(directory, built.sign(key, hashes.SHA256()), key, identifies_itself=False)
    made.bundle.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
    return made


def _builder(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
