"""An authority of one sandbox's own, so that the proxy can read the https requests it must judge.

Only that sandbox is told to trust it, and its key never leaves this process.
Source: RFC 5280 for what such certificates must hold.
"""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

_LASTS = timedelta(days=30)
_CLOCKS_DIFFER = timedelta(days=1)
_MOST_HOSTS = 256
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_USES = ("digital_signature", "key_cert_sign", "crl_sign")
_NO_USES = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")

_Extension = tuple[x509.ExtensionType, bool]


class Authority:
    """Makes a certificate for each host that is asked for; one key serves for all of them."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._host_key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Corral sandbox")])
        uses = dict.fromkeys(_USES, True) | dict.fromkeys(_NO_USES, False)
        self._certificate = self._signed(
            self._name,
            self._key.public_key(),
            [
                (x509.BasicConstraints(ca=True, path_length=0), True),
                (x509.KeyUsage(**uses, encipher_only=False, decipher_only=False), True),
            ],
        )
        self._contexts: dict[str, ssl.SSLContext] = {}

    def trusted(self) -> bytes:
        """What the sandbox is to trust, in PEM: the system's authorities and this one."""
        return b"\n".join([system_authorities(), _pem(self._certificate)])

    def context(self, host: str) -> ssl.SSLContext:
        """How to answer as ``host``, a name or an address in its canonical spelling."""
        if host not in self._contexts:
            if len(self._contexts) >= _MOST_HOSTS:
                self._contexts.clear()
            self._contexts[host] = self._context(host)
        return self._contexts[host]

    def _context(self, host: str) -> ssl.SSLContext:
        certificate = self._signed(
            x509.Name([]),
            self._host_key.public_key(),
            [
                (x509.SubjectAlternativeName([_alternative(host)]), True),
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            ],
        )
        key = self._host_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        with tempfile.NamedTemporaryFile(prefix="corral-") as file:  # only its owner can read it
            file.write(key + _pem(certificate))
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, extensions: Sequence[_Extension]
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        ours = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - _CLOCKS_DIFFER,
            not_valid_after=now + _LASTS,
        )
        identity = x509.SubjectKeyIdentifier.from_public_key(key)
        for extension, critical in (*extensions, (identity, False), (ours, False)):
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256())


def system_authorities() -> bytes:
    """Whom this machine trusts, in PEM; nothing where no such file is found."""
    known = ssl.get_default_verify_paths().cafile
    bundles = [*((known,) if known else ()), *_BUNDLES]
    found = (Path(path) for path in bundles if Path(path).is_file())
    return next((path.read_bytes() for path in found), b"")


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
