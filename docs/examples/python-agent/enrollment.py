"""How this agent gets its certificate: once, with a join token, over a connection that the token itself pins.

The key is written before the token is used, so a crash in between costs nothing: the token works again with the same key.
"""

import base64
import datetime
import os
import sys

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dd.v1 import enrollment_pb2 as pb

# The name in the controller's certificate for the control plane. It is no name of a host.
CONTROLLER = "dd-controller.control.invalid"


def join(state, target, token_file):
    """Where there is no certificate yet."""
    paths = _paths(state)
    if not os.path.exists(paths["agent.pem"]):
        if token_file is None:
            raise SystemExit("no certificate yet: give the token of `ddadm agent add` with --join-file")
        _join(paths, target, _token(token_file))


def channel(state, target):
    """A connection to the controller as this agent."""
    paths = _paths(state)
    key, chain, authority = (_read(paths[name]) for name in ("agent.key", "agent.pem", "authority.pem"))
    return _connect(target, grpc.ssl_channel_credentials(authority, key, chain))


def renew_in(state):
    """Seconds until two thirds of the certificate's life are over."""
    certificate = x509.load_pem_x509_certificate(_read(_paths(state)["agent.pem"]))
    begin, end = certificate.not_valid_before, certificate.not_valid_after
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    return max((begin + (end - begin) * 2 / 3 - now).total_seconds(), 0)


def renew(state, channel):
    """Another certificate for the same key. The next connection shows it."""
    paths = _paths(state)
    key = serialization.load_pem_private_key(_read(paths["agent.key"]), password=None)
    renewing = channel.unary_unary(
        "/dd.v1.Enrollment/Renew",
        request_serializer=pb.RenewRequest.SerializeToString,
        response_deserializer=pb.Credentials.FromString,
    )
    credentials = renewing(pb.RenewRequest(csr=_request(key, "agent")), timeout=60)
    _write(paths["authority.pem"], _pem([credentials.authority]))
    _write(paths["agent.pem"], _pem(credentials.chain))


def _paths(state):
    return {name: os.path.join(state, name) for name in ("agent.key", "agent.pem", "authority.pem")}


def _token(path):
    text = sys.stdin.read() if path == "-" else _read(path).decode("ascii")
    word, _, body = text.strip().partition(".")
    if word != "ddjoin1":
        raise SystemExit("this is no join token: take the whole line that `ddadm agent add` printed")
    return pb.JoinToken.FromString(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def _join(paths, target, token):
    csr = _request(_key(paths["agent.key"]), token.name)
    request = pb.JoinRequest(name=token.name, secret=token.secret, csr=csr)
    authority = _pem([token.authority])
    with _connect(target, grpc.ssl_channel_credentials(authority)) as pinned:
        join = pinned.unary_unary(
            "/dd.v1.Enrollment/Join",
            request_serializer=pb.JoinRequest.SerializeToString,
            response_deserializer=pb.Credentials.FromString,
        )
        credentials = join(request, timeout=30)
    _write(paths["authority.pem"], _pem([credentials.authority]))
    _write(paths["agent.pem"], _pem(credentials.chain))


def _request(key, name):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.DER)


def _connect(target, credentials):
    options = [
        ("grpc.ssl_target_name_override", CONTROLLER),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.max_receive_message_length", 4 << 20),
    ]
    return grpc.secure_channel(target, credentials, options)


def _key(path):
    if os.path.exists(path):
        return serialization.load_pem_private_key(_read(path), password=None)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, pem)
    return key


def _pem(ders):
    certificates = (x509.load_der_x509_certificate(der) for der in ders)
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def _write(path, content):
    """Whole or not at all, and never readable by others."""
    temporary = path + ".new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
