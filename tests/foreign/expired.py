#!/usr/bin/python3
"""A careless agent: it never looks whether its lease still holds."""

import agent

agent.Leases.held = lambda self, lease: True
agent.Agent(agent.options()).run()
