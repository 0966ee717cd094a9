"""One verified SMTP session with a site: connect, prove, hand over.

Nothing of an envelope is sent before the proof is given (`Session.open`), and no proof falls back to plaintext. Whatever
ends an attempt is an `Ended`, with the outcome that the controller is told.
"""

import datetime
import hashlib
import ipaddress
import re
import smtplib
import socket
import ssl
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import resolve
from dd.v1 import delivery_pb2 as pb

# The kinds of proof that this agent can judge; nobody is called for another one.
PROOFS = ("certificate", "static_ip", "port")

CONNECT_S = 30
COMMAND_S = 300
# RFC 5321 §4.5.3.2.6: a shorter wait for the reply to the final dot makes duplicates.
FINAL_DOT_S = 600


class Ended(Exception):
    """The session is over with this attempt; `results` has what single recipients were answered before, which stands."""

    def __init__(self, outcome, detail, reply=None, stage=pb.STAGE_SESSION):
        super().__init__(detail)
        self.outcome, self.detail, self.reply, self.stage = outcome, detail, reply, stage
        self.results = []


class LeaseExpired(Exception):
    """Before the dot: the assignment goes back."""


class _Smtp(smtplib.SMTP):
    """smtplib, connecting from our own address to a checked one, while TLS is told the site's defined name."""

    def __init__(self, address, port, source, helo, name):
        self._to = (str(address), port)
        super().__init__(name, port, helo, CONNECT_S, (source, 0))

    def _get_socket(self, _host, _port, timeout):
        return socket.create_connection(self._to, timeout, self.source_address)


class Session:
    """A session that has proved itself; only `open` makes one."""

    @classmethod
    def open(cls, plan, place, observed, tls_expected):
        """Tries the plan's hosts in order. `place` says who we are; `observed` is filled with what was seen.

        `tls_expected`: the site has shown TLS before, so without it is not the site, whatever its proof asks for.
        """
        last = Ended(pb.OUTCOME_UNREACHABLE, "the site has no host")
        for host in plan.hosts:
            try:
                addresses = resolve.addresses(host.host, place.dns)
            except OSError as error:
                last = Ended(pb.OUTCOME_UNREACHABLE, f"{host.host} cannot be resolved: {error}")
                continue
            for address in addresses:
                observed.Clear()
                observed.host = f"{host.host}:{host.port}"
                try:
                    return cls(plan, place, address, host.port, observed, tls_expected)
                except Ended as ended:
                    last = ended
        raise last

    def __init__(self, plan, place, address, port, observed, tls_expected):
        _check_target(address, plan, place)
        proof = plan.proof.WhichOneof("kind")
        if proof not in PROOFS:
            # None where the kind is newer than this program.
            raise Ended(pb.OUTCOME_AGENT_TROUBLE, f"this agent does not know the proof {proof}")
        observed.proof = proof.replace("_", "-")
        observed.peer = f"{address}:{port}"
        name = plan.proof.certificate.name if proof == "certificate" else str(address)
        try:
            self._smtp = _Smtp(address, port, place.source, place.helo, name)
        except smtplib.SMTPResponseException as refused:
            raise _unproved(refused.smtp_code, refused.smtp_error, "the greeting")
        except (OSError, smtplib.SMTPException) as error:
            raise Ended(pb.OUTCOME_UNREACHABLE, f"{observed.peer}: {error}")
        try:
            self._smtp.sock.settimeout(COMMAND_S)
            self._prove(plan, proof, address, observed, tls_expected)
        except (OSError, smtplib.SMTPException) as error:
            self._smtp.close()
            raise _withheld(observed, "NoTls", f"{observed.peer}: {error}")
        except Ended:
            self.quit()
            raise

    def _prove(self, plan, proof, address, observed, tls_expected):
        code, text = self._smtp.ehlo()
        if code != 250:
            raise _unproved(code, text, "EHLO")
        offers_tls = self._smtp.has_extn("starttls")
        if proof == "certificate" and not offers_tls:
            raise _withheld(observed, "NoStartTls", "the host does not offer STARTTLS")
        if tls_expected and not offers_tls:
            raise _withheld(observed, "TlsFellAway", "the site has shown TLS before, and now the host does not offer it")
        if offers_tls:
            try:
                self._smtp.starttls(context=_context(plan, proof))
            except ssl.SSLCertVerificationError as error:
                self._smtp.close()
                reason = "NameMismatch" if error.verify_code == 62 else "CertificateRefused"
                raise _withheld(observed, reason, f"the certificate is refused: {error.verify_message}")
            self._see(observed)
            # RFC 3207 §4.2: what was learnt before TLS is forgotten.
            self._smtp.ehlo()
        if proof == "certificate":
            self._check_key(observed)
        elif proof == "static_ip":
            listed = [ipaddress.ip_address(listed) for listed in plan.proof.static_ip.addresses]
            if address not in listed:
                raise _withheld(observed, "AddressNotListed", f"{address} is not one of the site's addresses")

    def _check_key(self, observed):
        key = self._certificate().public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
            raise _withheld(observed, "WeakKey", f"the certificate's RSA key has only {key.key_size} bits")

    def _certificate(self):
        return x509.load_der_x509_certificate(self._smtp.sock.getpeercert(True))

    def _see(self, observed):
        certificate, names = self._certificate(), []
        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = [str(name) for name in extension.value.get_values_for_type(x509.DNSName)]
        except x509.ExtensionNotFound:
            pass
        observed.tls_version = self._smtp.sock.version()
        observed.tls_cipher = self._smtp.sock.cipher()[0]
        seen = observed.certificate
        seen.subject = certificate.subject.rfc4514_string()
        seen.issuer = certificate.issuer.rfc4514_string()
        seen.names.extend(names)
        seen.sha256 = certificate.fingerprint(hashes.SHA256()).hex()
        key = certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        seen.spki_sha256 = hashlib.sha256(key).hexdigest()
        seen.not_before_ms = _unix_ms(certificate.not_valid_before)
        seen.not_after_ms = _unix_ms(certificate.not_valid_after)

    def transact(self, envelope, content, before_dot):
        """Hands one message over. Calls `before_dot` with the accepted numbers; returns a result for each recipient."""
        results = []
        if not self._is_writable(envelope.reverse_path):
            return [_not_asked(recipient.number) for recipient in envelope.recipients]
        try:
            return self._transact(envelope, content, before_dot, results)
        except Ended as ended:
            ended.results = results
            raise

    def _transact(self, envelope, content, before_dot, results):
        options = self._mail_options(envelope, len(content))
        code, text = self._command(f"MAIL FROM:<{envelope.reverse_path}>{options}")
        if code in (502, 503, 530) or code // 100 not in (2, 4, 5):
            # About the session, not about the message.
            outcome = pb.OUTCOME_REFUSED if code // 100 == 5 else pb.OUTCOME_BROKEN
            raise Ended(outcome, f"MAIL was answered {code}", _known(code, text), pb.STAGE_MAIL)
        if code // 100 != 2:
            # An answer is about what it answers: to MAIL, about this message.
            return [_result(recipient.number, code, code, text) for recipient in envelope.recipients]
        accepted = []
        for recipient in envelope.recipients:
            if not self._is_writable(recipient.forward_path):
                # RFC 6531 §3.5: this recipient only; the others get the message.
                results.append(_not_asked(recipient.number))
                continue
            code, text = self._command(f"RCPT TO:<{recipient.forward_path}>")
            if code // 100 == 2:
                accepted.append(recipient.number)
            elif code // 100 not in (4, 5):
                raise Ended(pb.OUTCOME_BROKEN, f"RCPT was answered {code}", _known(code, text), pb.STAGE_RCPT)
            else:
                # RFC 5321 §4.5.3.1.10: 552 to RCPT is temporary.
                results.append(_result(recipient.number, 452 if code == 552 else code, code, text))
        if not accepted:
            self._command("RSET")
            return results
        code, text = self._command("DATA")
        if code == 354:
            self._body(content)
            before_dot(accepted)
            code, text = self._dot()
        elif code // 100 not in (4, 5):
            raise Ended(pb.OUTCOME_BROKEN, f"DATA was answered {code}", _known(code, text), pb.STAGE_DATA)
        return results + [_result(number, code, code, text) for number in accepted]

    def _mail_options(self, envelope, size):
        options = f" SIZE={size}" if self._smtp.has_extn("size") else ""
        for wanted, extension, option in (
            (envelope.eight_bit, "8bitmime", " BODY=8BITMIME"),
            (envelope.smtputf8, "smtputf8", " SMTPUTF8"),
        ):
            if wanted and self._smtp.has_extn(extension):
                options += option
        return options

    def _is_writable(self, path):
        return path.isascii() or self._smtp.has_extn("smtputf8")

    def _body(self, content):
        if content and not content.endswith(b"\r\n"):
            content += b"\r\n"
        try:
            self._smtp.send(re.sub(rb"(?m)^\.", b"..", content))
        except (OSError, smtplib.SMTPException) as error:
            raise Ended(pb.OUTCOME_BROKEN, f"the session broke in the content: {error}", stage=pb.STAGE_CONTENT)

    def _dot(self):
        try:
            self._smtp.sock.settimeout(FINAL_DOT_S)
            self._smtp.send(b".\r\n")
            code, text = self._smtp.getreply()
            self._smtp.sock.settimeout(COMMAND_S)
        except (OSError, smtplib.SMTPException) as error:
            raise Ended(pb.OUTCOME_IN_DOUBT, f"no answer to the final dot: {error}", stage=pb.STAGE_END_OF_DATA)
        if code // 100 not in (2, 4, 5):
            raise Ended(pb.OUTCOME_IN_DOUBT, f"the final dot was answered {code}", stage=pb.STAGE_END_OF_DATA)
        return code, text

    def _command(self, line):
        """One command; what breaks here came before any dot of this message."""
        try:
            # Addresses go as they came, in UTF-8 too.
            self._smtp.command_encoding = "utf-8"
            self._smtp.putcmd(line)
            code, text = self._smtp.getreply()
        except (OSError, smtplib.SMTPException) as error:
            raise Ended(pb.OUTCOME_BROKEN, f"the session broke at {line.split()[0]}: {error}", stage=_stage(line))
        if code == 421:
            raise Ended(pb.OUTCOME_BUSY, "the site closes the session", _reply(code, text), _stage(line))
        return code, text

    def quit(self):
        if self._smtp.sock is None:
            return
        try:
            self._smtp.sock.settimeout(5)
            self._smtp.quit()
        except (OSError, smtplib.SMTPException):
            self._smtp.close()

    def drop(self):
        """Ends it without another word: used before a dot that must not go."""
        self._smtp.close()


def _stage(line):
    stages = {"MAIL": pb.STAGE_MAIL, "RCPT": pb.STAGE_RCPT, "DATA": pb.STAGE_DATA}
    return stages.get(line.split()[0], pb.STAGE_MAIL)


def _unix_ms(time):
    return int(time.replace(tzinfo=datetime.timezone.utc).timestamp() * 1000)


def _context(plan, proof):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if proof != "certificate":
        # TLS keeps readers out here; the proof is another one, and rules alone.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    # Exactly the site's authority, never the system's; names only from the SAN (RFC 9525 §2).
    context.hostname_checks_common_name = False
    context.load_verify_locations(cadata=b"".join(plan.anchors))
    if plan.revocation_lists:
        with tempfile.NamedTemporaryFile() as file:
            for der in plan.revocation_lists:
                file.write(x509.load_der_x509_crl(der).public_bytes(serialization.Encoding.PEM))
            file.flush()
            context.load_verify_locations(cafile=file.name)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _check_target(address, plan, place):
    within = lambda networks: any(address in ipaddress.ip_network(network) for network in networks)
    if within(plan.allow_targets) or within(place.allow):
        return
    if not address.is_global or within(place.forbidden):
        raise Ended(pb.OUTCOME_UNREACHABLE, f"{address} is no address a site may lie at")


def _unproved(code, text, what):
    """Nothing that an unproved host says is permanent."""
    outcome = pb.OUTCOME_BUSY if code // 100 == 4 else pb.OUTCOME_WRONG_HOST
    return Ended(outcome, f"{what} was answered {code}", _known(code, text))


def _withheld(observed, reason, sentence):
    observed.refusal.reason, observed.refusal.sentence = reason, sentence
    return Ended(pb.OUTCOME_WRONG_HOST, sentence)


def _result(number, meant, code, text):
    disposition = {2: pb.DISPOSITION_RELAYED, 4: pb.DISPOSITION_DEFERRED, 5: pb.DISPOSITION_FAILED}
    return pb.RecipientResult(
        number=number,
        disposition=disposition.get(meant // 100, pb.DISPOSITION_DEFERRED),
        reply=_reply(code, text),
    )


def _not_asked(number):
    """RFC 6531 §3.5: no downgrade in flight. The site was not asked, so this is no evidence about it."""
    result = _result(number, 553, 553, "5.6.7 the site does not offer SMTPUTF8")
    result.not_asked = True
    return result


def _known(code, text):
    """None where it is no reply of SMTP."""
    return _reply(code, text) if 200 <= code < 600 else None


def _reply(code, text):
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    printable = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)[:2000]
    enhanced = re.match(r"([245]\.\d{1,3}\.\d{1,3}) ", printable)
    return pb.Reply(code=max(code, 0), enhanced=enhanced[1] if enhanced else "", text=printable)
