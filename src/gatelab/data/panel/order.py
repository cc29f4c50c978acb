"""The order in which training meets the windows of a panel where every series is to count alike."""

import numpy as np

from gatelab.data.base_module import BatchOrder


class SeriesOrder(BatchOrder):
    """An order of training in which every series is met equally often, however many windows it has.

    An epoch has as many windows as there are, drawn: the series in a new order again and again, of each a window at
    random. A pure function of (seed, epoch), as its base is.
    """

    first: np.ndarray
    count: np.ndarray

    def permutation(self) -> np.ndarray:
        """Return the windows `[items]` of the current epoch; some stand there more than once."""
        if not self.shuffle:
            return np.arange(self.items)
        random = np.random.Generator(np.random.PCG64([self.seed, self.epoch]))
        rounds = -(-self.items // len(self.first))
        series = np.concatenate([random.permutation(len(self.first)) for _ in range(rounds)])[: self.items]
        return self.first[series] + (random.random(self.items) * self.count[series]).astype(np.int64)

    def of_windows(self, series: np.ndarray) -> "SeriesOrder":
        """Take note of which series `[items]`, in order, each window is of."""
        _, self.first, self.count = np.unique(series, return_index=True, return_counts=True)
        return self
