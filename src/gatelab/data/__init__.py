"""Data: corpora, series, windows, and the DataModules that hand them to Lightning.

Everything except the files named `*module.py` is plain Python, NumPy, pandas and torch and can be used without
Lightning. The public names below are therefore loaded on first use: `import gatelab.data` alone imports
neither Lightning nor pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatelab.data.audio.sound_module import SoundDataModule
    from gatelab.data.audio.speech_module import SpeechDataModule
    from gatelab.data.labelled.mnist_module import MNISTDataModule
    from gatelab.data.labelled.module import LabelledDataModule
    from gatelab.data.labelled.spec import LabelledBatch, LabelledSpec
    from gatelab.data.labelled.text_module import LabelledTableDataModule, LabelledTextDataModule
    from gatelab.data.messages import DataError, FetchError
    from gatelab.data.pairs.module import PairsDataModule
    from gatelab.data.pairs.spec import PairBatch, PairSpec
    from gatelab.data.panel.module import PanelDataModule
    from gatelab.data.plain_module import PlainDataModule
    from gatelab.data.polyphony.module import PolyphonyDataModule
    from gatelab.data.polyphony.spec import FramesBatch, PolyphonySpec
    from gatelab.data.series.module import SeriesDataModule
    from gatelab.data.series.protocol import Series
    from gatelab.data.series.table import read_table
    from gatelab.data.specs import IGNORE, SeriesBatch, SeriesSpec, Spec, TextSpec, TokenBatch
    from gatelab.data.synthetic_module import AddingDataModule, CopyMemoryDataModule
    from gatelab.data.text.module import TextDataModule
    from gatelab.data.text.tokenizer import Tokenizer, tokenizer_from_dict

__all__ = [
    "IGNORE",
    "AddingDataModule",
    "CopyMemoryDataModule",
    "DataError",
    "FetchError",
    "FramesBatch",
    "LabelledBatch",
    "LabelledDataModule",
    "LabelledSpec",
    "LabelledTableDataModule",
    "LabelledTextDataModule",
    "MNISTDataModule",
    "PairBatch",
    "PairSpec",
    "PairsDataModule",
    "PanelDataModule",
    "PlainDataModule",
    "PolyphonyDataModule",
    "PolyphonySpec",
    "Series",
    "SeriesBatch",
    "SeriesDataModule",
    "SeriesSpec",
    "SoundDataModule",
    "Spec",
    "SpeechDataModule",
    "TextDataModule",
    "TextSpec",
    "TokenBatch",
    "Tokenizer",
    "read_table",
    "tokenizer_from_dict",
]


_HOME = {
    "audio.sound_module": ("SoundDataModule",),
    "audio.speech_module": ("SpeechDataModule",),
    "labelled.mnist_module": ("MNISTDataModule",),
    "labelled.module": ("LabelledDataModule",),
    "labelled.spec": ("LabelledBatch", "LabelledSpec"),
    "labelled.text_module": ("LabelledTableDataModule", "LabelledTextDataModule"),
    "messages": ("DataError", "FetchError"),
    "plain_module": ("PlainDataModule",),
    "polyphony.module": ("PolyphonyDataModule",),
    "polyphony.spec": ("FramesBatch", "PolyphonySpec"),
    "series.module": ("SeriesDataModule",),
    "pairs.module": ("PairsDataModule",),
    "pairs.spec": ("PairBatch", "PairSpec"),
    "panel.module": ("PanelDataModule",),
    "series.protocol": ("Series",),
    "series.table": ("read_table",),
    "specs": ("IGNORE", "SeriesBatch", "SeriesSpec", "Spec", "TextSpec", "TokenBatch"),
    "synthetic_module": ("AddingDataModule", "CopyMemoryDataModule"),
    "text.module": ("TextDataModule",),
    "text.tokenizer": ("Tokenizer", "tokenizer_from_dict"),
}


def __getattr__(name: str) -> Any:
    """Import the file that holds `name` when the name is first asked for (PEP 562)."""
    for file, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"gatelab.data.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
