"""Addresses of a host, asked anew every time: these are DynDNS names, and a stale answer is somebody else's machine.

Python's own resolver can neither be told a server nor to forget; this asks one server for A and AAAA over UDP.
"""

import ipaddress
import random
import socket
import struct

A, AAAA = 1, 28


def addresses(host, server):
    """IPv6 first; raises OSError where there is none or the server does not answer."""
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass
    found = _ask(host, AAAA, server) + _ask(host, A, server)
    if not found:
        raise OSError(f"{host} has no address")
    return found


def _ask(host, kind, server):
    number = random.randrange(1 << 16)
    labels = host.rstrip(".").encode("ascii").split(b".")
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    question = name + struct.pack("!HH", kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        asking.connect(server)
        asking.send(struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + question)
        answer = asking.recv(4096)
    got, _, questions, answers, _, _ = struct.unpack("!HHHHHH", answer[:12])
    if got != number or questions != 1:
        raise OSError(f"no answer to the question for {host}")
    at = 12 + len(question)
    found = []
    for _ in range(answers):
        at = _after_name(answer, at)
        its_kind, _, _, length = struct.unpack("!HHIH", answer[at : at + 10])
        data = answer[at + 10 : at + 10 + length]
        at += 10 + length
        if its_kind == kind:
            found.append(ipaddress.ip_address(data))
    return found


def _after_name(answer, at):
    while answer[at]:
        if answer[at] >= 0xC0:
            return at + 2
        at += 1 + answer[at]
    return at + 1
