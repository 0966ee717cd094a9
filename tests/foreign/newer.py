#!/usr/bin/python3
"""An agent of a version to come: it serves more kinds, and says things that nobody knows yet."""

import agent
from dd.v1 import delivery_pb2 as pb

# Fields 200 and 150, of length 3.
FIELD, EVENT = b"\xc2\x0c\x03new", b"\xb2\x09\x03new"
hello, events = agent.Agent._hello, agent.Agent._events


def newer_hello(self):
    said = hello(self)
    said.kinds.append("teleport")
    said.MergeFromString(FIELD)
    return said


def newer_events(self, up):
    for event in events(self, up):
        yield event
        yield pb.AgentEvent.FromString(EVENT)


agent.Agent._hello, agent.Agent._events = newer_hello, newer_events
agent.Agent(agent.options()).run()
