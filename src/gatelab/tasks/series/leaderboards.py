"""Rows as two public leaderboards of forecasting read them: fev and GIFT-Eval.

    fev         the evaluation summary of a task (autogluon/fev, `Task.evaluation_summary`): what was asked, the
                errors, seconds. SQL and MASE are means over values; WQL and WAPE are those of each window and target,
                then the mean.
    GIFT-Eval   a row of `all_results.csv` (SalesforceAIResearch/gift-eval): errors as GluonTS takes them, sMAPE and
                MAPE as fractions, one weighted quantile loss over everything at once.

A forecaster that gives points stands for every quantile with its point, as there: then WQL = WAPE = ND, SQL = MASE and
MSIS = 40 MASE. What a figure is: `gatelab.data.series.scores` and `gatelab.tasks.metrics`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatelab.data.series.scores import LEVELS
from gatelab.data.specs import SeriesSpec

FORMATS = ("fev", "gift")
SMALLEST = 1.0
"""What fev-bench divides WAPE and WQL by at least, in the unit of the series."""
EXTRA = ["MASE", {"name": "WAPE", "epsilon": SMALLEST}, {"name": "WQL", "epsilon": SMALLEST}]


@dataclass(frozen=True)
class About:
    """What a leaderboard asks beside the figures.

    model, dataset: names; windows: scored origins; step: between them; cutoff: the first origin, in rows before the end
    (negative) or as a stamp; training_seconds, inference_seconds; version: of Gatelab.
    """

    model: str
    dataset: str
    windows: int
    step: int
    cutoff: int | str | None
    training_seconds: float | None
    inference_seconds: float | None
    version: str


def leaderboard_row(
    format: str, about: About, spec: SeriesSpec, metrics: Mapping[str, float]
) -> dict[str, Any]:
    """Return one row, column -> value.

    metrics: `mse_original`, `mae_original`, `mase`, `smape`, `nd`, and where known `mape`, `sql`, `wql`, `msis`, and
    `fev_wql`, `fev_wape`, the means over windows and targets.
    """
    known = with_points_as_quantiles(metrics)
    return _fev(about, spec, known) if format == "fev" else _gift(about, spec, known)


def with_points_as_quantiles(metrics: Mapping[str, float]) -> dict[str, float]:
    """The figures, with those of a distribution that has all of its weight on the point where there is none."""
    nd, mase = metrics.get("nd", math.nan), metrics.get("mase", math.nan)
    stand_in = {"sql": mase, "wql": nd, "msis": 40 * mase, "mape": math.nan, "mase": mase, "nd": nd}
    found = stand_in | dict(metrics)
    found.setdefault("fev_wape", found["nd"])
    found.setdefault("fev_wql", found["wql"] if "wql" in metrics else found["fev_wape"])
    return found


def _fev(about: About, spec: SeriesSpec, metrics: Mapping[str, float]) -> dict[str, Any]:
    targets = list(spec.targets)
    return {
        "model_name": about.model,
        "dataset_path": about.dataset,
        "dataset_config": about.dataset,
        "horizon": spec.horizon,
        "num_windows": about.windows,
        "initial_cutoff": about.cutoff,
        "window_step_size": about.step,
        "min_context_length": 1,
        "max_context_length": None,
        "seasonality": spec.season,
        "eval_metric": "SQL",
        "extra_metrics": str(EXTRA),
        "quantile_levels": str(list(LEVELS)),
        "id_column": "id",
        "timestamp_column": "timestamp",
        "target": str(targets) if len(targets) > 1 else targets[0],
        "generate_univariate_targets_from": None,
        "known_dynamic_columns": str(list(spec.known)),
        "past_dynamic_columns": str([name for name in spec.channels if name not in targets]),
        "static_columns": str(list(spec.static)),
        "task_name": about.dataset,
        "test_error": metrics["sql"],
        "training_time_s": about.training_seconds,
        "inference_time_s": about.inference_seconds,
        "num_forecasts": about.windows * len(targets) * max(1, spec.series),
        "dataset_fingerprint": None,
        "trained_on_this_dataset": False,
        "fev_version": None,
        "SQL": metrics["sql"],
        "MASE": metrics["mase"],
        "WAPE": metrics["fev_wape"],
        "WQL": metrics["fev_wql"],
        "framework_version": about.version,
    }


def _gift(about: About, spec: SeriesSpec, metrics: Mapping[str, float]) -> dict[str, Any]:
    rmse = math.sqrt(metrics["mse_original"])
    size = metrics["mae_original"] / metrics["nd"] if metrics["nd"] > 0 else math.nan
    figures = {
        "MSE[mean]": metrics["mse_original"],
        "MSE[0.5]": metrics["mse_original"],
        "MAE[0.5]": metrics["mae_original"],
        "MASE[0.5]": metrics["mase"],
        "MAPE[0.5]": metrics["mape"],
        "sMAPE[0.5]": metrics["smape"] / 100,
        "MSIS": metrics["msis"],
        "RMSE[mean]": rmse,
        "NRMSE[mean]": rmse / size,
        "ND[0.5]": metrics["nd"],
        "mean_weighted_sum_quantile_loss": metrics["wql"],
    }
    return {
        "dataset": about.dataset,
        "model": about.model,
        **{f"eval_metrics/{name}": value for name, value in figures.items()},
        "domain": None,
        "num_variates": len(spec.targets),
    }


def fev_means(windows: list[dict[str, Any]]) -> dict[str, float]:
    """`fev_wql` and `fev_wape` of a backtest's windows: of each window and target, then the mean.

    What they are divided by, the mean of |truth|, is at least `SMALLEST`, as in the tasks of fev-bench.
    """
    found: dict[str, list[float]] = {"fev_wql": [], "fev_wape": []}
    for window in windows:
        figures = window["per_target"]
        for error, share, loss in zip(figures["mae_original"], figures["nd"], _losses(figures), strict=True):
            size = error / share if share > 0 else math.nan
            factor = size / max(SMALLEST, size) if math.isfinite(size) else 1.0
            found["fev_wape"].append(share * factor)
            found["fev_wql"].append(loss * factor)
    known = {name: [value for value in values if math.isfinite(value)] for name, values in found.items()}
    return {name: math.fsum(values) / len(values) for name, values in known.items() if values}


def _losses(figures: Mapping[str, list[float]]) -> list[float]:
    """The weighted quantile loss of each target; of points their normalised deviation."""
    return figures["wql"] if "wql" in figures else figures["nd"]
