#!/usr/bin/python3
"""A careless agent: it takes a message for delivered before the site has answered the final dot."""

import agent
import handoff


def dot(self):
    try:
        self._smtp.send(b".\r\n")
    except OSError:
        pass
    return 250, b"surely"


handoff.Session._dot = dot
agent.Agent(agent.options()).run()
