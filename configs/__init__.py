"""Experiments, one a file: `get_config()` returns all settings. Installed as gif_jax/configs, which links here."""
