"""Data: corpora, series, windows, and the DataModules that hand them to Lightning.

Everything except the files named `*module.py` is plain Python, NumPy, pandas and torch and can be used without
Lightning. The public names below are therefore loaded on first use: `import gatelab.data` alone imports
neither Lightning nor pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatelab.data.messages import DataError, FetchError
    from gatelab.data.series.module import SeriesDataModule
    from gatelab.data.series.protocol import Series
    from gatelab.data.series.table import read_table
    from gatelab.data.specs import IGNORE, SeriesBatch, SeriesSpec, Spec, TextSpec, TokenBatch
    from gatelab.data.synthetic_module import AddingDataModule, CopyMemoryDataModule
    from gatelab.data.text.module import TextDataModule
    from gatelab.data.text.tokenizer import Tokenizer, tokenizer_from_dict

_HOME = {
    "IGNORE": "specs",
    "SeriesBatch": "specs",
    "TokenBatch": "specs",
    "DataError": "messages",
    "FetchError": "messages",
    "SeriesDataModule": "series.module",
    "SeriesSpec": "specs",
    "TextSpec": "specs",
    "Spec": "specs",
    "TextDataModule": "text.module",
    "AddingDataModule": "synthetic_module",
    "CopyMemoryDataModule": "synthetic_module",
    "Series": "series.protocol",
    "Tokenizer": "text.tokenizer",
    "tokenizer_from_dict": "text.tokenizer",
    "read_table": "series.table",
}

__all__ = [
    "IGNORE",
    "AddingDataModule",
    "CopyMemoryDataModule",
    "DataError",
    "FetchError",
    "Series",
    "SeriesBatch",
    "SeriesDataModule",
    "SeriesSpec",
    "Spec",
    "TextDataModule",
    "TextSpec",
    "TokenBatch",
    "Tokenizer",
    "read_table",
    "tokenizer_from_dict",
]


def __getattr__(name: str) -> Any:
    """Import the file that holds `name` when the name is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"gatelab.data.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
