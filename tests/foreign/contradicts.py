#!/usr/bin/python3
"""A careless agent: it calls failed what the site has accepted, and says so with the site's own 250."""

import agent
from dd.v1 import delivery_pb2 as pb

tell = agent.Lane._tell


def careless_tell(self, report, dots, began):
    for result in report.recipients:
        result.disposition = pb.DISPOSITION_FAILED
    tell(self, report, dots, began)


agent.Lane._tell = careless_tell
agent.Agent(agent.options()).run()
