"""Data: corpora, series, windows, and the DataModules that hand them to Lightning.

Everything except the `*_module.py` files is plain Python, NumPy, pandas and torch and can be used without
Lightning. The public names below are therefore loaded on first use: `import gatelab.data` alone imports
neither Lightning nor pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatelab.data.batches import IGNORE, SeriesBatch, TokenBatch
    from gatelab.data.messages import DataError, FetchError
    from gatelab.data.series import Series
    from gatelab.data.series_module import SeriesDataModule
    from gatelab.data.specs import SeriesSpec, TextSpec, spec_from_dict
    from gatelab.data.synthetic_module import AddingDataModule, CopyMemoryDataModule
    from gatelab.data.table import read_table
    from gatelab.data.text_module import TextDataModule
    from gatelab.data.tokenizer import Tokenizer, tokenizer_from_dict

_HOME = {
    "IGNORE": "batches",
    "SeriesBatch": "batches",
    "TokenBatch": "batches",
    "DataError": "messages",
    "FetchError": "messages",
    "SeriesDataModule": "series_module",
    "SeriesSpec": "specs",
    "TextSpec": "specs",
    "spec_from_dict": "specs",
    "TextDataModule": "text_module",
    "AddingDataModule": "synthetic_module",
    "CopyMemoryDataModule": "synthetic_module",
    "Series": "series",
    "Tokenizer": "tokenizer",
    "tokenizer_from_dict": "tokenizer",
    "read_table": "table",
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
    "TextDataModule",
    "TextSpec",
    "TokenBatch",
    "Tokenizer",
    "read_table",
    "spec_from_dict",
    "tokenizer_from_dict",
]


def __getattr__(name: str) -> Any:
    """Import the file that holds `name` when the name is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"gatelab.data.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
