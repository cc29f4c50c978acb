"""The page of `gatelab explain`, which needs no network, from what `gatelab.tasks.explanation.measure` measured.

It is made as a report's page is: the same shell, tables and interactive figures (`page.py`, `figures.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatelab.report.figures import COLOURS, FAINT, SYMBOLS, draw_heat_map, new_figure
from gatelab.report.page import place, render, table
from gatelab.tasks.contract import HeatMap

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHOWN_STEPS = 480
"""Steps of a text that are coloured for each unit."""
LEVELS = 4
"""Shades of each colour."""
OPENED = 3
"""Units whose text is open at first."""
Block = dict[str, Any]
"""One thing of a section: `text`, `faint`, `table`, `figure`, `spans` or `fold` (a title and blocks)."""


def write_explanation(found: Mapping[str, Any], output: str | Path) -> Path:
    """Write the page; it is replaced in one step."""
    sections = [
        {"title": title, "blocks": list(map(_whole, blocks))} for title, blocks in _sections(found) if blocks
    ]
    title = f"What {found['run']} learned"
    return render("explanation.html.j2", Path(output), title=title, about=_about(found), sections=sections)


def _whole(block: Block) -> Block:
    """The block with every key that the template asks for."""
    whole = dict.fromkeys(("text", "faint", "table", "figure", "spans", "fold")) | block
    if whole["fold"]:
        whole["fold"] = whole["fold"] | {"blocks": list(map(_whole, whole["fold"]["blocks"]))}
    return whole


def _about(found: Mapping[str, Any]) -> str:
    return (
        f"{found['note']} Loss {found['loss']:.4f} {found['unit']} over {found['losses']:,}. "
        f"Measured in {found['seconds']:.0f} s by `gatelab explain`."
    )


def _sections(found: Mapping[str, Any]) -> Iterator[tuple[str, list[Block]]]:
    yield "Units and what they follow", list(_units(found))
    yield "How much context it uses", list(_context(found))
    yield "Gates and time constants", list(_gates(found))
    yield "One prediction, and what it rests on", list(_attribution(found))
    yield "Attention", [block for one in found["maps"] for block in _map(one)]
    yield "The cell as a dynamical system", list(_dynamics(found))


# units


def _units(found: Mapping[str, Any]) -> Iterator[Block]:
    units = found["units"]
    if not units:
        return
    yield {
        "text": "R² is the share of a unit's variance that a property of the step tells (adjusted; 1: all of it), read "
        "that which the symbol or value just read tells, beyond what the property tells and the latter does not. That "
        "is a correlation, and the network need not use it. Whether it does is said by the loss when the unit is held "
        "at its mean, with the standard error of the difference, and by the targets that suffer most."
    }
    yield {"table": _unit_table(found)}
    for number, unit in enumerate(units):
        part = next(part for part in found["parts"] if part["name"] == unit["part"])
        blocks = list(_one_unit(unit, part))
        title = f"{unit['unit']}: {unit['why']}"
        yield {"fold": {"title": title, "blocks": blocks, "open": number < OPENED}}


def _unit_table(found: Mapping[str, Any]) -> dict[str, Any]:
    units = found["units"]
    shown: dict[str, list[str]] = {
        "unit": [unit["unit"] for unit in units],
        "follows": [unit["probe"] or "" for unit in units],
        "R²": [_number(unit["told"]) for unit in units],
        "beyond": [_number(unit["beyond"]) for unit in units],
        "read": [_number(unit["told_by_current"]) for unit in units],
        "loss without it": [_rise(unit["ablated"]) for unit in units],
        "targets that suffer": [_suffer(unit["ablated"]) for unit in units],
        "steps it remembers": [_number(unit["time_constant"]) for unit in units],
        "between resets": [_number(unit["time_constant_median"]) for unit in units],
        "chosen as": [unit["why"] for unit in units],
    }
    return table("Units", {title: cells for title, cells in shown.items() if any(cells)})


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"


def _rise(ablated: Mapping[str, Any]) -> str:
    if "refused" in ablated:
        return ""
    return f"{ablated['rise']:+.4f} ± {ablated['error']:.4f}"


def in_words(unit: Mapping[str, Any]) -> str:
    """`layer1:35 follows position in line (R² 0.86); loss without it +0.0058 ± 0.0014`."""
    follows = f" follows {unit['probe']} (R² {unit['told']:.2f})" if unit["probe"] else ""
    rise = _rise(unit["ablated"])
    return f"{unit['unit']}{follows}" + (f"; loss without it {rise}" if rise else "")


def _suffer(ablated: Mapping[str, Any]) -> str:
    rows = [row for row in ablated.get("targets", []) if row["rise"] > 2 * row["error"]]
    return ", ".join(f"{row['target']!r} {row['loss']:.2f} → {row['loss'] + row['rise']:.2f}" for row in rows)


def _one_unit(unit: Mapping[str, Any], part: Mapping[str, Any]) -> Iterator[Block]:
    if part["kind"] == "text":
        yield {"spans": spans(part["steps"][0], unit["states"][0], unit["mean"], 2 / 3 * unit["sd"])}
        yield {"faint": "Orange: above the unit's mean, blue: below it."}
    else:
        yield {"figure": place(_over_steps(unit, part), f"{unit['unit']} over the steps")}
    if unit["curve"] and len(unit["curve"]["value"]) > 2:
        yield {
            "figure": place(
                _over_probe(unit), f"{unit['unit']} by {unit['probe']}", "mean and standard deviation"
            )
        }


def spans(
    steps: Sequence[str], values: Sequence[float], middle: float, spread: float
) -> list[tuple[str, str]]:
    """The text of steps in runs of one shade: (class, text); full at three times `spread` from `middle`."""
    pairs = [
        (_shade((value - middle) / (3 * spread or 1)), "↵\n" if text.strip(" ") == "\n" else text)
        for text, value in zip(steps[:SHOWN_STEPS], values, strict=False)
    ]
    return [
        (shade, "".join(text for _, text in run)) for shade, run in groupby(pairs, key=lambda pair: pair[0])
    ]


def _shade(value: float) -> str:
    level = max(-LEVELS, min(LEVELS, round(value * LEVELS)))
    return f"{'up' if level > 0 else 'down'}{abs(level)}" if level else ""


def _over_steps(unit: Mapping[str, Any], part: Mapping[str, Any]) -> go.Figure:
    figure = new_figure(height=300, yaxis_title_text="read", xaxis_title_text="step")
    x = part["steps"][0]
    for index, (name, rows) in enumerate(part["drawn"].items()):
        line = {"color": FAINT, "width": 1.4, "dash": ("solid", "dot", "dash")[index % 3]}
        figure.add_scatter(x=x, y=rows[0], name=name, line=line)
    line = {"color": COLOURS[1], "width": 2.2}
    figure.add_scatter(x=x, y=unit["states"][0][: len(x)], name=unit["unit"], line=line, yaxis="y2")
    figure.update_layout(
        yaxis2={"overlaying": "y", "side": "right", "showgrid": False, "title": {"text": "state"}}
    )
    return figure


def _over_probe(unit: Mapping[str, Any]) -> go.Figure:
    curve = unit["curve"]
    figure = new_figure(
        height=280, xaxis_title_text=unit["probe"], yaxis_title_text=f"state of {unit['unit']}"
    )
    error = {"array": curve["sd"], "thickness": 1, "width": 0, "color": FAINT}
    marker = {"color": COLOURS[0], "size": 6}
    figure.add_scatter(
        x=curve["value"],
        y=curve["mean"],
        error_y=error,
        marker=marker,
        mode="markers+lines",
        line={"width": 1},
    )
    figure.update_layout(showlegend=False)
    return figure


# context


def _context(found: Mapping[str, Any]) -> Iterator[Block]:
    context = found["context"]
    if context:
        yield {
            "text": f"The loss when the state is carried from k {context['counts']} before, over that with all that "
            "was read, at the same positions."
        }
        figure = new_figure(
            height=320,
            xaxis_title_text=f"k, {context['counts']} carried",
            yaxis_title_text="rise of the loss",
        )
        figure.add_scatter(
            x=[str(k) for k in context["k"]],
            y=context["rise"],
            error_y={"array": context["error"], "thickness": 1.3, "width": 4},
            mode="lines+markers",
            marker={"color": COLOURS[0], "size": 8},
        )
        figure.update_layout(showlegend=False)
        figure.update_xaxes(type="category")
        yield {
            "figure": place(figure, "Rise of the loss by context", f"{found['unit']}; bars: standard error")
        }
        yield {"text": _enough(context, found)}
    reaching = [part for part in found["parts"] if part["reach"]]
    if reaching:
        figure = new_figure(height=320, xaxis_title_text="k, steps before", yaxis_title_text="norm")
        for index, part in enumerate(reaching):
            x = [step + 1 for step in part["reach"]["steps"]]
            marker = {"color": COLOURS[index], "symbol": SYMBOLS[index], "size": 8}
            figure.add_scatter(
                x=x, y=part["reach"]["norm"], name=part["name"], mode="lines+markers", marker=marker,
                customdata=part["reach"]["steps"], hovertemplate="%{customdata} steps before: %{y:.3g}",
            )  # fmt: skip
        steps = reaching[0]["reach"]["steps"]
        figure.update_xaxes(
            type="log", tickvals=[step + 1 for step in steps], ticktext=[str(step) for step in steps]
        )
        figure.update_yaxes(type="log")
        note = "the Frobenius norm of ∂y(t) / ∂x(t−k) of the core, root mean square over sequences"
        yield {"figure": place(figure, "How far back an output reaches", note)}


def _enough(context: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The least context from which on the rise is below a hundredth of the loss."""
    bound = 0.01 * found["loss"]
    places = [
        place for place in range(len(context["k"])) if all(rise <= bound for rise in context["rise"][place:])
    ]
    if not places:
        return f"No context up to {context['k'][-1]} {context['counts']} comes within 1 % of the loss with all of it."
    return f"From {context['k'][places[0]]} {context['counts']} on, the loss is within 1 % of that with all of it."


# gates


def _gates(found: Mapping[str, Any]) -> Iterator[Block]:
    for part in found["parts"]:
        layers = [layer for layer in part["layers"] if layer["time_constants"]]
        if not layers:
            continue
        lead = f"{part['name']}: " if len(found["parts"]) > 1 else ""
        when = part["autocorrelation_time"]
        known = "never within the sample" if when is None or math.isnan(when) else f"after {when:.2f} steps"
        yield {
            "text": f"{lead}A unit's time constant says in how many steps it forgets all but 1/e of its state, from "
            f"the gate that keeps it. What the core reads is autocorrelated by less than 1/e {known}."
        }
        yield {
            "figure": place(
                _spectrum(layers, when), "Time constants of the units by layer", _spectrum_note(layers)
            )
        }
        yield {"table": _gate_table(layers)}
        yield {"figure": place(_saturation(layers), "Saturation of each unit's gates", SATURATION)}


SATURATION = (
    "a point is a unit's gate: the share of steps at which it is below .05 and above .95; at the lower right it is "
    "always shut, at the upper left always open, at the origin never saturated"
)


def _spectrum(layers: Sequence[Mapping[str, Any]], when: float | None) -> go.Figure:
    figure = new_figure(
        height=320, xaxis_title_text="time constant, steps", yaxis_title_text="share of units"
    )
    for index, layer in enumerate(layers):
        constants = sorted(layer["time_constants"])
        share = [(place + 1) / len(constants) for place in range(len(constants))]
        line = {"color": COLOURS[index % len(COLOURS)], "shape": "hv"}
        figure.add_scatter(x=constants, y=share, name=layer["layer"], mode="lines", line=line)
    if when is not None and math.isfinite(when) and when > 0:
        figure.add_vline(
            x=when, line={"color": FAINT, "dash": "dash"}, name="autocorrelation time", showlegend=True
        )
    figure.update_xaxes(type="log")
    return figure


def _spectrum_note(layers: Sequence[Mapping[str, Any]]) -> str:
    texts = []
    for layer in layers:
        constants = sorted(layer["time_constants"])
        low, middle, high = (constants[round(q * (len(constants) - 1))] for q in (0.1, 0.5, 0.9))
        texts.append(
            f"{layer['layer']}: a tenth below {low:.3g}, half below {middle:.3g}, a tenth above {high:.3g}"
        )
    return "; ".join(texts)


def _gate_table(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = [(layer["layer"], name, gate) for layer in layers for name, gate in layer["gates"].items()]
    shown = {
        "layer": [layer for layer, _, _ in rows],
        "gate": [name for _, name, _ in rows],
        "mean": [f"{gate['mean']:.3f}" for *_, gate in rows],
        "below .05": [f"{gate['closed']:.1%}" for *_, gate in rows],
        "above .95": [f"{gate['open']:.1%}" for *_, gate in rows],
    }
    return table("Gates", shown)


def _saturation(layers: Sequence[Mapping[str, Any]]) -> go.Figure:
    figure = new_figure(height=380, xaxis_title_text="share of steps below .05", yaxis_title_text="above .95")
    for index, layer in enumerate(layers):
        for symbol, (name, gate) in zip(SYMBOLS, layer["gates"].items(), strict=False):
            marker = {"color": COLOURS[index % len(COLOURS)], "symbol": symbol, "size": 5, "opacity": 0.6}
            figure.add_scatter(
                x=_short(gate["closed_of_unit"]), y=_short(gate["open_of_unit"]), mode="markers", marker=marker,
                name=f"{layer['layer']} {name}", hovertemplate="unit %{pointNumber}: %{x:.2f}, %{y:.2f}",
            )  # fmt: skip
    return figure


def _short(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


# attribution


def _attribution(found: Mapping[str, Any]) -> Iterator[Block]:
    one = found["attribution"]
    if one is None:
        return
    yield {
        "text": f"{one['note']} It is {one['score']:.4g}, against {one['baseline']:.4g} from the baseline."
    }
    if one["features"]:
        yield {"figure": place(_saliency(one), "Attribution by step and feature")}
    else:
        values = [row[0] for row in one["values"]]
        if one["kind"] == "text":
            most = max(map(abs, values), default=0.0) or 1.0
            yield {"spans": spans(one["steps"], values, 0.0, most / 3)}
        figure = new_figure(height=260, xaxis_title_text="step", yaxis_title_text="contribution")
        figure.add_bar(
            x=list(range(len(values))),
            y=values,
            hovertext=one["steps"],
            marker={"color": COLOURS[0]},
        )
        yield {"figure": place(figure, "Attribution by step")}
    yield {
        "faint": f"Integrated gradients at {one['points']} points; what they sum up to differs from the score by "
        f"{one['completeness_error']:.2g} of it (the error of completeness). Orange raises the score, blue lowers it."
    }


def _saliency(one: Mapping[str, Any]) -> go.Figure:
    most = max((abs(value) for row in one["values"] for value in row), default=1.0) or 1.0
    features = one["features"]
    figure = new_figure(height=max(260, min(520, 14 * len(features) + 120)), xaxis_title_text="step")
    figure.add_heatmap(
        x=one["steps"], y=features, z=[list(column) for column in zip(*one["values"], strict=True)],
        zmin=-most, zmax=most, colorscale=DIVERGING,
    )  # fmt: skip
    return figure


DIVERGING = ((0.0, "#2f7ed8"), (0.5, "rgba(128,128,128,0.08)"), (1.0, "#d9660d"))


def _map(one: Mapping[str, Any]) -> Iterator[Block]:
    yield {"figure": place(draw_heat_map(HeatMap(**one)), one["note"], one["note"])}


# dynamics


def _dynamics(found: Mapping[str, Any]) -> Iterator[Block]:
    rows = [(part, cell, name) for part in found["parts"] for cell in part["cells"] for name in CONSTANT]
    if not rows:
        return
    yield {
        "text": "Each layer's cell under a constant input: without any, and under the mean of what it reads. A fixed "
        "point is stable where no direction leads away; a saddle has some that do. The exponent tells how fast two "
        "states that read the same become one (below 0), in nats a step."
    }
    names = [_cell_name(found, part, cell) for part, cell, _ in rows]
    shown = {
        "cell": names,
        "input": [CONSTANT[name] for *_, name in rows],
        "stable points": [str(sum(n == 0 for n in cell[name]["unstable"])) for _, cell, name in rows],
        "saddles": [_saddles(cell[name]) for _, cell, name in rows],
        "slowest there, steps": [_slowest(cell[name]) for _, cell, name in rows],
        "largest exponent": [f"{cell['lyapunov'][0]:.3f}" for _, cell, _ in rows],
        "searches that ended at one": [
            f"{cell[name]['found']} of {cell[name]['starts']}" for _, cell, name in rows
        ],
        "moving after 300 steps": [f"{cell[name]['after_300_steps']:.1g}" for _, cell, name in rows],
    }
    yield {"table": table("Fixed points", shown)}
    if any(not cell[name]["saddles"] for _, cell, name in rows):
        yield {"faint": "Of a large layer only points that trajectories run into are searched, no saddles."}
    if figure := _eigenvalues(found):
        yield {"figure": place(figure, "Eigenvalues at the first fixed point without input", EIGENVALUES)}
    yield {"figure": place(_exponents(found), "Lyapunov exponents under the sample's input")}


CONSTANT = {"without_input": "none", "mean_input": "the mean"}
EIGENVALUES = (
    "of the Jacobian, by layer; near the circle a direction is remembered long, outside of it it grows"
)


def _cell_name(found: Mapping[str, Any], part: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    return f"{part['name']}/{cell['layer']}" if len(found["parts"]) > 1 else cell["layer"]


def _saddles(one: Mapping[str, Any]) -> str:
    return str(sum(n > 0 for n in one["unstable"])) if one["saddles"] else ""


def _slowest(one: Mapping[str, Any]) -> str:
    return f"{one['time_constants'][0]:.1f}" if one["time_constants"] else ""


def _eigenvalues(found: Mapping[str, Any]) -> go.Figure | None:
    cells = [
        (part, cell)
        for part in found["parts"]
        for cell in part["cells"]
        if cell["without_input"]["eigenvalues"]
    ]
    if not cells:
        return None
    figure = new_figure(height=420, xaxis_title_text="real part", yaxis_title_text="imaginary part")
    turns = [2 * math.pi * n / 120 for n in range(121)]
    circle = {"color": FAINT, "width": 1}
    figure.add_scatter(
        x=[math.cos(a) for a in turns],
        y=[math.sin(a) for a in turns],
        line=circle,
        mode="lines",
        name="|eigenvalue| = 1",
    )
    for index, (part, cell) in enumerate(cells):
        values = cell["without_input"]["eigenvalues"]
        marker = {"color": COLOURS[index % len(COLOURS)], "symbol": SYMBOLS[index % len(SYMBOLS)], "size": 5}
        real, imaginary = (_short([value[axis] for value in values]) for axis in (0, 1))
        figure.add_scatter(
            x=real, y=imaginary, mode="markers", marker=marker, name=_cell_name(found, part, cell)
        )
    figure.update_yaxes(scaleanchor="x")
    return figure


def _exponents(found: Mapping[str, Any]) -> go.Figure:
    figure = new_figure(height=280, xaxis_title_text="exponent", yaxis_title_text="nats a step")
    cells = [(part, cell) for part in found["parts"] for cell in part["cells"]]
    for index, (part, cell) in enumerate(cells):
        marker = {"color": COLOURS[index % len(COLOURS)], "symbol": SYMBOLS[index % len(SYMBOLS)], "size": 7}
        figure.add_scatter(
            x=list(range(1, len(cell["lyapunov"]) + 1)),
            y=cell["lyapunov"],
            name=_cell_name(found, part, cell),
            mode="lines+markers",
            marker=marker,
        )
    return figure
