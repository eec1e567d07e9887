"""Networks: backbones, code heads, and the two joined."""
