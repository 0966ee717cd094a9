#!/usr/bin/python3
"""An agent that serves only a kind of delivery that no site has."""

import agent

hello = agent.Agent._hello


def other_hello(self):
    said = hello(self)
    said.kinds[:] = ["teleport"]
    return said


agent.Agent._hello = other_hello
agent.Agent(agent.options()).run()
