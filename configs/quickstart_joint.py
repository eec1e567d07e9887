"""`joint`"""

from configs import quickstart


def get_config():
  c = quickstart.get_config()
  c.joint.enabled = True
  c.joint.lr = 0.4
  return c
