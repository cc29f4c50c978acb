"""What TensorBoard shows of a run directory, read by TensorBoard itself, beside what metrics.csv holds."""

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator


def read_events(run_dir):
    """Every event that TensorBoard would show."""
    events = EventAccumulator(str(run_dir / "tensorboard"), {SCALARS: 0})
    events.Reload()
    return events


def points(run_dir):
    """(metric, step, number among equal ones) -> value; without the score that is written at the end."""
    events = read_events(run_dir)
    found = [(tag, e.step, e.value) for tag in events.Tags()[SCALARS] for e in events.Scalars(tag)]
    return _numbered(p for p in found if not p[0].startswith("best/"))


def points_of(rows):
    """The same of the rows of metrics.csv."""
    return _numbered(
        (name, int(row["step"]), float(text))
        for row in rows
        for name, text in row.items()
        if name != "step" and text
    )


def _numbered(found):
    numbered = {}
    for tag, step, value in found:
        same = sum(key[:2] == (tag, step) for key in numbered)
        numbered[tag, step, same] = value
    return numbered
