"""Recurrent cells, layers and models in pure PyTorch: nothing in this ring imports more than `torch`."""

from gatelab.core.backends import BackendError, Explanation
from gatelab.core.baselines import LSTM, RNN, MinGRU, TorchGRU, TorchLSTM, TorchRNN
from gatelab.core.budget import hidden_size_for
from gatelab.core.cells import GRUCell, LSTMCell, RNNCell
from gatelab.core.contract import Core
from gatelab.core.gru import GRU
from gatelab.core.labels.classifier import SequenceClassifier
from gatelab.core.labels.polyphony import FrameModel
from gatelab.core.series.forecaster import Forecaster
from gatelab.core.speech.recognizer import SpeechRecognizer
from gatelab.core.text.language_model import LanguageModel
from gatelab.core.text.sampling import beam_search, generate
from gatelab.core.translation.translator import Translator
from gatelab.core.weights.convert import KerasWeights, from_keras, from_torch, to_keras, to_torch

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "BackendError",
    "Core",
    "Explanation",
    "Forecaster",
    "FrameModel",
    "GRUCell",
    "KerasWeights",
    "LSTMCell",
    "LanguageModel",
    "MinGRU",
    "RNNCell",
    "SequenceClassifier",
    "SpeechRecognizer",
    "TorchGRU",
    "TorchLSTM",
    "TorchRNN",
    "Translator",
    "beam_search",
    "from_keras",
    "from_torch",
    "generate",
    "hidden_size_for",
    "to_keras",
    "to_torch",
]
