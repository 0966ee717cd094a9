"""The journal: what must survive the end of this process.

One line per event, synced: an entry (DotSent or Report, in base64) under its lease, or the word that the controller has
acknowledged it. Only one process may use it, so its lock is taken before anything else.

A crash between two lines loses nothing that was promised: before the final dot there is a DotSent, after the reply there
is a Report, and an entry that is acknowledged twice is acknowledged.
"""

import base64
import fcntl
import os
import threading

from dd.v1 import delivery_pb2 as pb


class Journal:
    def __init__(self, directory):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._lock_file = open(os.path.join(directory, "lock"), "w")
        fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._mutex = threading.Lock()
        path = os.path.join(directory, "journal")
        self._entries = self._read(path)
        self._file = open(path, "ab")

    def dot_sent(self, dot):
        """Before the final dot."""
        self._put(dot.lease, pb.Journaled(dot_sent=dot))

    def report(self, report):
        """After the reply, before the report is told."""
        self._put(report.lease, pb.Journaled(report=report))

    def acknowledged(self, lease):
        with self._mutex:
            if self._entries.pop(key(lease), None) is None:
                return
            self._line(lease, b"-")
            if not self._entries:
                self._file.truncate(0)
                os.fsync(self._file.fileno())

    def entries(self):
        with self._mutex:
            return list(self._entries.values())

    def _put(self, lease, entry):
        with self._mutex:
            self._line(lease, base64.b64encode(entry.SerializeToString()))
            self._entries[key(lease)] = entry

    def _line(self, lease, what):
        self._file.write(base64.b64encode(key(lease)) + b" " + what + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    @staticmethod
    def _read(path):
        entries = {}
        if not os.path.exists(path):
            return entries
        with open(path, "rb") as file:
            text = file.read()
        # What stands behind the last line end was never promised to anybody.
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.splitlines():
            lease, what = line.split(b" ")
            lease = base64.b64decode(lease)
            if what == b"-":
                entries.pop(lease, None)
            else:
                entries[lease] = pb.Journaled.FromString(base64.b64decode(what))
        if len(whole) < len(text):
            os.truncate(path, len(whole))
        return entries


def key(lease):
    return lease.SerializeToString(deterministic=True)
