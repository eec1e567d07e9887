"""`joint`"""

from configs import quickstart


def get_config():
  c = quickstart.get_config()
  c.joint.enabled = True
  c.joint.lr = 0.4
  c.loss.gamma = 0.0
  return c
