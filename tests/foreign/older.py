#!/usr/bin/python3
"""An agent of an earlier version: it says no more in its Hello than an agent has to."""

import agent

hello = agent.Agent._hello


def older_hello(self):
    said = hello(self)
    for field in ("version", "addresses", "boot_id"):
        said.ClearField(field)
    return said


agent.Agent._hello = older_hello
agent.Agent(agent.options()).run()
