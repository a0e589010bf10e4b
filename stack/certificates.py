"""A short-lived certificate authority and a server's certificate, for tests of TLS on this machine."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

DAYS = 30


def make(folder: Path, host: str) -> tuple[Path, Path]:
    """`ca.pem`, and `server.pem` with key and certificate of a server at the IP address `host`; kept once made.

    Beside them `client.pem` and `client.key`, from the same authority.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    trusted, served = folder / "ca.pem", folder / "server.pem"
    if trusted.exists() and served.exists():
        return trusted, served
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)

    def builder(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=DAYS))
        )

    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "testops local authority")])
    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    root = (
        builder("testops local authority", authority_key)
        .add_extension(constraints, critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    client_key = ec.generate_private_key(ec.SECP256R1())
    client = builder("testops client", client_key).sign(authority_key, hashes.SHA256())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    leaf = builder(host, server_key).add_extension(names, critical=False).sign(authority_key, hashes.SHA256())
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = server_key.private_bytes(*form)
    (folder / "client.key").touch(mode=0o600)
    (folder / "client.key").write_bytes(client_key.private_bytes(*form))
    (folder / "client.pem").write_bytes(client.public_bytes(serialization.Encoding.PEM))
    served.touch(mode=0o600)
    served.write_bytes(key + leaf.public_bytes(serialization.Encoding.PEM))
    trusted.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    return trusted, served
