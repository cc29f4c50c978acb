"""Mean, standard deviation and interval of a point's runs, and whether two points differ.

The interval is Student's t over the runs: (mean ± t_{0.975, n-1} s / sqrt(n)), where s is the sample standard
deviation (n - 1 in the denominator). With cross-validation and seeds, the seeds are averaged inside each fold
first and n is the number of folds: runs of one fold share their data, so they are not independent.
The folds of one series share data too, so their interval is a little too narrow (Bengio & Grandvalet 2004).

Two points are compared run by run (same seed, same fold): a two-sided paired t-test. The decision, at
`ALPHA`, is made in `leaderboard.py` and `one_at_a_time.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from gatelab.study.analysis.state import Run, StudyState, Trial

LEVEL, ALPHA = 0.95, 0.05
LARGE = 1e12


@dataclass(frozen=True)
class Summary:
    """Mean, standard deviation and interval of the runs of one point.

    Attributes:
        n: how many values went in: seeds, or folds.
        mean: of them.
        sd: sample standard deviation; None with one value.
        half: half the width of the 95 % interval; None with one value.
    """

    n: int
    mean: float
    sd: float | None = None
    half: float | None = None

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.half is None else self.mean - self.half

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return None if self.half is None else self.mean + self.half

    def text(self, digits: int | None = None) -> str:
        """`1.8362 ± 0.0041` with that many decimals (None: its own); the mean alone without an interval."""
        digits = decimals([self]) if digits is None else digits
        mean = fixed(self.mean, digits)
        return mean if self.half is None else f"{mean} ± {fixed(self.half, digits)}"


def fixed(value: float, digits: int) -> str:
    """A number with that many decimals; one too large to be read so, of a run that diverged, as `5.949e+30`."""
    return f"{value:,.{digits}f}" if abs(value) < LARGE else f"{value:.4g}"


def decimals(summaries: Sequence[Summary]) -> int:
    """Decimals for a column of summaries: two significant digits of a narrow interval, else five of the mean."""
    halves = sorted(s.half for s in summaries if s.half and math.isfinite(s.half))
    if halves:
        digits = 1 - math.floor(math.log10(halves[len(halves) // 4]))
    else:
        means = [abs(s.mean) for s in summaries if s.mean and math.isfinite(s.mean)]
        digits = 4 - math.floor(math.log10(min(means))) if means else 0
    return min(8, max(0, digits))


def summarise(values: Sequence[float]) -> Summary:
    """Mean, sample standard deviation and 95 % interval of independent values.

    Raises ValueError without any value.
    """
    if not values:
        raise ValueError("no values to summarise")
    n, mean = len(values), fmean(values)
    if n == 1:
        return Summary(1, mean)
    from scipy.special import stdtrit  # the quantile of scipy.stats.t, without importing all of scipy.stats

    sd = stdev(values) if all(map(math.isfinite, values)) else math.nan
    return Summary(n, mean, sd, float(stdtrit(n - 1, (1 + LEVEL) / 2)) * sd / math.sqrt(n))


def values_of(runs: Iterable[Run]) -> dict[tuple[Any, ...], float]:
    """The independent values of a point by what they share with other points: by seed, or by fold.

    With folds, each value is the mean over the seeds of that fold.
    """
    finished = [run for run in runs if run.value is not None]
    if all(run.fold is None for run in finished):
        return {(run.seed,): run.value for run in finished if run.value is not None}
    folds: dict[tuple[Any, ...], list[float]] = {}
    for run in finished:
        folds.setdefault((run.fold,), []).append(float(run.value))  # type: ignore[arg-type]
    return {fold: fmean(values) for fold, values in folds.items()}


def summary_of(trial: Trial) -> Summary:
    """The summary of a trial's runs; of its value alone where the runs' values are not known one by one."""
    values = values_of(trial.runs)
    return summarise(list(values.values())) if values else Summary(max(1, len(trial.runs)), trial.values[0])


def over_what(state: StudyState) -> str:
    """Description of what a point's mean and interval are taken over."""
    folds, seeds = state.settings.get("folds"), state.settings.get("seeds") or []
    if folds and len(seeds) > 1:
        return f"mean and 95 % interval (Student's t) over {folds} folds, each the mean of {len(seeds)} seeds"
    if folds:
        return f"mean and 95 % interval (Student's t) over {folds} folds"
    if len(seeds) > 1:
        return f"mean and 95 % interval (Student's t) over {len(seeds)} seeds"
    return "one run a point: no interval (study.seeds=[0,1,2] gives one)"


def paired_p(one: Mapping[Any, float], other: Mapping[Any, float]) -> float | None:
    """Two-sided p of the paired t-test over the common keys; None without two pairs of finite scores."""
    differences = [one[key] - other[key] for key in one if key in other]
    if len(differences) < 2 or not all(map(math.isfinite, differences)):  # a run has diverged
        return None
    sd = stdev(differences)
    if sd == 0.0:  # the same difference in every pair
        return 1.0 if differences[0] == 0.0 else 0.0
    from scipy.special import stdtr

    n = len(differences)
    return float(2 * stdtr(n - 1, -abs(fmean(differences)) / (sd / math.sqrt(n))))


def shown_p(p: float) -> str:
    """A p as a person writes it: `0.032`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
