"""Ports for tests whose processes talk to each other."""

import socket


def free_port() -> int:
  """A port that nobody listens on just now."""
  with socket.socket() as listening:
    listening.bind(('localhost', 0))
    return listening.getsockname()[1]
