"""Where the configuration files are: `conf/`, in the wheel as `gatelab/conf`, in a checkout beside `src/`.

Not the place where configurations are composed (`compose.py`) or checked (`schema.py`).
"""

from pathlib import Path

_PACKAGED = Path(__file__).resolve().parents[2] / "conf"
_CHECKOUT = Path(__file__).resolve().parents[4] / "conf"

CONF_DIR = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
