"""Configuration of a run: `compose.py` composes it with Hydra, `schema.py` checks it.

`CONF_DIR` is the folder of the configuration files: `gatelab/conf` in a wheel, `conf/` beside `src/` in a checkout.
"""

from pathlib import Path

_PACKAGED = Path(__file__).resolve().parents[2] / "conf"
_CHECKOUT = Path(__file__).resolve().parents[4] / "conf"

CONF_DIR = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
