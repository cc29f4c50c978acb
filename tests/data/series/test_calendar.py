"""Time in tables: every step is found with its anchor and continued from the last row; the ambiguous is refused."""

import warnings

import numpy as np
import pandas as pd
import pytest

from gatelab.data.messages import DataError, Problems
from gatelab.data.series.calendar import following, same_step
from gatelab.data.series.protocol import Series
from gatelab.data.series.table import read_table

MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
DAYS = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]
FREQUENCIES = [
    *["B", "D", "MS", "ME", "BMS", "BME", "h", "min", "s", "ms", "us"],
    *(f"W-{day}" for day in DAYS),
    *(f"{name}-{month}" for name in ("QS", "QE", "YS", "YE", "BQS", "BQE", "BYS", "BYE") for month in MONTHS),
    *(f"WOM-{week}{day}" for week in range(1, 5) for day in DAYS),
    *(f"LWOM-{day}" for day in DAYS),
    *["SMS", "SMS-10", "SME", "SME-20"],
    *[
        "2h",
        "6h",
        "90min",
        "5min",
        "15s",
        "2D",
        "3D",
        "10D",
        "2B",
        "2W-WED",
        "4W-FRI",
        "2MS",
        "6MS",
        "2ME",
        "4BME",
    ],
    *["2QS-FEB", "2YS-APR", "5YE-JUN"],
]
STARTS = ["2019-12-30", "2023-10-31 00:17:23", "2020-02-29 07:00"]


def table(tmp_path, stamps, **options) -> Series:
    path = tmp_path / "t.csv"
    values = np.random.default_rng(0).normal(size=len(stamps))
    pd.DataFrame({"t": stamps, "x": values}).to_csv(path, index=False)
    return read_table(path, time="t", **options)


@pytest.mark.parametrize("frequency", FREQUENCIES)
@pytest.mark.quick(80)
@pytest.mark.quick(4, rest="ci")
def test_the_first_forecast_is_the_last_row_plus_one_step(tmp_path, frequency):
    for start in STARTS:
        every = pd.date_range(start, periods=40, freq=frequency)
        series = table(tmp_path, every[:30])
        assert series.times is not None
        forecast = following(pd.Timestamp(series.times[-1]), series.frequency, 10)
        assert (forecast == every[30:]).all(), (start, series.frequency)


@pytest.mark.parametrize("months", [1, 2, 3, 6, 12])
@pytest.mark.parametrize("clock", ["", " 12:30"])
@pytest.mark.quick(1, rest="ci")
def test_a_fixed_day_of_the_month_is_a_step(tmp_path, months, clock):
    for day in (2, 15, 28, 29, 30, 31):
        first = pd.Timestamp("2023-01-01") + pd.DateOffset(day=day)
        every = [first + pd.DateOffset(months=months * i, day=day) for i in range(30)]
        stamps = [f"{time:%Y-%m-%d}{clock}" for time in every]
        series = table(tmp_path, stamps[:20])
        assert series.times is not None
        name = f"{months if months > 1 else ''}MS-{day}"
        assert series.frequency == name or every[0].is_month_end
        forecast = following(pd.Timestamp(series.times[-1]), series.frequency, 10)
        assert [f"{time:%Y-%m-%d %H:%M}"[: len(stamps[0])] for time in forecast] == stamps[20:]
        with pytest.raises(DataError, match="1 time is missing"):
            table(tmp_path, stamps[:7] + stamps[8:20])


def test_another_day_of_the_month_is_another_step(tmp_path):
    few = table(tmp_path, ["2024-01-15", "2024-02-15"], step="MS-15")
    assert few.frequency == "MS-15"
    with pytest.raises(DataError, match=r"too few|no regular grid"):
        table(tmp_path, ["2024-01-01", "2024-02-15"], step="MS-15")


@pytest.mark.parametrize("frequency", ["bh", "cbh", "C"])
def test_a_step_that_is_not_known_is_refused_or_continued_right(tmp_path, frequency):
    every = pd.date_range("2023-01-02", periods=40, freq=frequency)
    try:
        series = table(tmp_path, every[:30])
    except DataError:
        return
    assert series.times is not None
    assert following(pd.Timestamp(series.times[-1]), series.frequency, 1)[0] == every[30]


@pytest.mark.parametrize(
    "frequency", ["W-MON", "QS-FEB", "QE-NOV", "YS-APR", "YE-JUN", "ME", "BMS", "B", "D", "90min"]
)
def test_a_gap_hides_no_step(tmp_path, frequency):
    every = pd.date_range("2020-01-01", periods=40, freq=frequency)
    series = table(tmp_path, every.delete([7, 8, 20]), gaps="fill")
    assert series.frequency == frequency
    assert series.filled is not None
    assert np.flatnonzero(series.filled[:, 0]).tolist() == [7, 8, 20]
    assert (series.times == every.to_numpy()).all()


def test_the_expected_step_decides_where_few_rows_leave_it_open(tmp_path):
    week = pd.date_range("2024-01-01", periods=5, freq="D")  # Monday to Friday
    assert [table(tmp_path, week, step=step).frequency for step in ("B", "D", "h", "")] == [
        "B",
        "D",
        "B",
        "B",
    ]
    two = pd.date_range("2024-01-01", periods=2, freq="MS")
    assert table(tmp_path, two, step="MS").frequency == "MS"


@pytest.mark.parametrize("recorded", ["W", "QS", "QE", "YS", "YE"])
def test_records_of_old_hold_the_step_without_its_anchor(recorded):
    anchors = DAYS if recorded == "W" else MONTHS
    assert all(same_step(recorded, f"{recorded}-{anchor}") for anchor in anchors)
    assert not same_step(f"{recorded}-{anchors[0]}", f"{recorded}-{anchors[1]}")
    assert not same_step(recorded, "D")


# zones


@pytest.mark.parametrize(
    "zone", ["Europe/Paris", "America/New_York", "Asia/Kolkata", "UTC", "Australia/Lord_Howe"]
)
@pytest.mark.parametrize(
    ("frequency", "start"),
    [
        ("h", "2024-10-26"),
        ("D", "2024-10-10"),
        ("W-MON", "2024-08-01"),
        ("MS", "2023-01-01"),
        ("30min", "2024-03-30"),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.quick(17, rest="ci")
def test_forecasts_keep_the_zone_of_the_table(tmp_path, zone, frequency, start, ending):
    every = pd.date_range(start, periods=50, freq=frequency, tz=zone)
    frame = pd.DataFrame({"t": every[:40], "x": np.random.default_rng(0).normal(size=40)})
    path = tmp_path / f"t.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    series = read_table(path, time="t")
    assert series.times is not None
    assert (series.times == every[:40].tz_convert(None).to_numpy()).all()
    forecast = following(pd.Timestamp(series.times[-1]), series.frequency, 10, series.zone)
    if ending == "parquet" or frequency in ("h", "30min"):
        assert (forecast == every[40:]).all()
    else:  # a CSV file holds offsets: the days are right, the offset is that of the last row
        assert (forecast.tz_localize(None) == every[40:].tz_localize(None)).all()
    last = every[39].isoformat()[-6:]
    assert ending == "parquet" or forecast[0].isoformat()[-6:] == last
    assert any("forecasts are stamped" in note for note in series.notes)


def test_days_that_are_regular_in_utc_alone_are_continued_there(tmp_path):
    every = pd.date_range("2024-03-01", periods=60, freq="D", tz="UTC").tz_convert("Europe/London")
    series = table(tmp_path, every)
    assert (series.frequency, series.zone) == ("D", "UTC")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            ["2024-01-01 00:00+01:00", "2024-01-01 01:00", "2024-01-01 02:00+01:00"],
            "row 2: .*no offset from UTC",
        ),
        ([f"2024-01-01 0{h}:00 CET" for h in range(3)], "row 1: .*write the offset from UTC"),
        ([f"2024-01-01 0{h}:00 Europe/Paris" for h in range(3)], "row 1: .*write the offset from UTC"),
    ],
)
def test_zones_that_are_not_offsets_are_refused(tmp_path, written, message):
    with pytest.raises(DataError, match=message):
        table(tmp_path, written)


def test_local_times_where_clocks_change_come_with_the_fix(tmp_path):
    local = pd.date_range("2024-10-26", periods=72, freq="h", tz="Europe/Paris").tz_localize(None)
    with pytest.raises(
        DataError, match=r"2024-10-27 02:00:00 stands in rows.*write every time with its offset"
    ):
        table(tmp_path, local)
    local = pd.date_range("2024-03-30", periods=72, freq="h", tz="Europe/Paris").tz_localize(None)
    with pytest.raises(DataError, match=r"1 time is missing.*write every time with its offset"):
        table(tmp_path, local)


# parts that are missing

INCOMPLETE = {
    "%b-%d": "lacks a year or a day",
    "%b-%y": "lacks a year or a day",
    "%d %b": "lacks a year or a day",
    "%B %d": "lacks a year or a day",
    "%d %b %H:%M": "lacks a year or a day",
    "%H:%M": "has no date",
    "%H:%M:%S": "has no date",
    "%I:%M %p": "has no date",
    "%b %Y": "lacks a day",
    "%B %Y": "lacks a day",
    "%m/%Y": "lacks a day",
    "%m/%d/%y": "a year of two digits",
    "%d.%m.%y": "a year of two digits",
    "%d-%b-%y": "a year of two digits",
    "%y/%m/%d": "a year of two digits",
    "%A": "lacks|not a date|has no date",
    "%m-%d": "lacks|not a date",
    "%d.%m.": "lacks|not a date",
}
COMPLETE = [
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M:%S",
    "%d %b %Y",
    "%b %d, %Y %H:%M",
    "%Y/%m/%d",
    "%Y-%m-%d %I:%M %p",
    "%Y-%m-%d %I:%M:%S%p",
    "%Y/%m/%d %I:%M %p",
    "%d/%m/%Y %I:%M %p",
    "%d.%m.%Y %H:%M",
    "%Y%m%dT%H%M",
]


@pytest.mark.parametrize("format", INCOMPLETE)
@pytest.mark.parametrize("year", [1965, 2005])
def test_dates_that_lack_a_part_are_refused_by_its_name(tmp_path, format, year):
    days = pd.date_range(f"{year}-01-10", periods=40, freq="D")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match=rf"t\.csv: column 't', row 1: .*({INCOMPLETE[format]})"):
            table(tmp_path, days.strftime(format), gaps="ignore")


def test_one_incomplete_date_among_complete_ones_is_found(tmp_path):
    days = list(pd.date_range("2024-01-10", periods=40, freq="D").strftime("%d %b %Y"))
    days[23] = days[23][:6]
    with pytest.raises(DataError, match="row 24: '02 Feb' lacks a year or a day"):
        table(tmp_path, days)


@pytest.mark.parametrize("format", COMPLETE)
def test_whole_dates_are_read_in_any_form(tmp_path, format):
    days = pd.date_range("2024-01-10", periods=40, freq="D")
    assert (table(tmp_path, days.strftime(format)).times == days.to_numpy()).all()


@pytest.mark.parametrize(
    "first", ["2024-12-16", "2020-12-14", "2021-06-07"]
)  # across the years of 52 and 53 weeks
@pytest.mark.parametrize(
    "format", ["{}-W{:02}", "{}W{:02}", "{}-W{:02}-{}", "{}W{:02}{}", "{}-W{:02}-{} 00:00"]
)
def test_weeks_are_read_as_iso_writes_them(tmp_path, format, first):
    every = pd.date_range(first, periods=30, freq="D" if format.count("{}") > 1 else "W-MON")
    stamps = [format.format(*day.isocalendar()) for day in every]
    series = table(tmp_path, stamps)
    assert series.times is not None
    assert (series.times == every.to_numpy()).all()
    with pytest.raises(DataError, match="row 31: '2023-W53' is not a date"):
        table(tmp_path, [*stamps, "2023-W53"])


@pytest.mark.parametrize(
    "format", ["%Y-%m-%d %H:00", "%Y-%m-%dT%H:00:00", "%Y-%m-%d %H:00Z", "%d.%m.%Y %H:00"]
)
def test_the_hour_24_is_the_midnight_that_ends_the_day(tmp_path, format):
    every = pd.date_range("2024-02-27 01:00", periods=72, freq="h")
    late = [(time - pd.Timedelta(days=1)).strftime(format).replace("00:00", "24:00", 1) for time in every]
    stamps = [late[i] if time.hour == 0 else time.strftime(format) for i, time in enumerate(every)]
    assert sum("24:00" in stamp for stamp in stamps) == 3
    assert (table(tmp_path, stamps).times == every.to_numpy()).all()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("step", ["h", "D", "90min", "MS"])
def test_unix_time_is_read_in_its_unit(tmp_path, unit, step):
    every = pd.date_range("2012-03-01", periods=40, freq=step)
    series = table(tmp_path, every.to_numpy().astype(f"datetime64[{unit}]").astype(np.int64))
    assert (series.times == every.to_numpy()).all()
    assert (series.frequency, series.zone) == (step, "UTC")
    assert any("since 1970 in UTC" in note for note in series.notes)


@pytest.mark.parametrize(
    "numbers", [range(40), range(1990, 2030), range(20240101, 20240141), [1e9, *range(39)]]
)
def test_other_numbers_are_not_taken_for_times(tmp_path, numbers):
    with pytest.raises(
        DataError, match=r"'t' holds numbers, not dates; write ISO dates .*or leave data\.time out"
    ):
        table(tmp_path, list(numbers))


@pytest.mark.parametrize("format", ["%Y/%d/%m", "%Y.%d.%m", "%Y-%d-%m %I:%M %p", "%Y %d %m"])
def test_years_are_followed_by_the_month(tmp_path, format):
    days = pd.date_range("2024-01-10", periods=40, freq="D")
    with pytest.raises(DataError, match=r"row 4: .* has no month between year and day"):
        table(tmp_path, days.strftime(format))


READ = ["{}", "%a {}", "%A, {}", "00:00 {}", "00:00:00 {}", "{} 00:00"]
AROUND = [*READ, "({})", "{}T00:00:00", "on {}"]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("part", [".", "/", "-", ". ", " / ", ", "])
@pytest.mark.parametrize("order", ["dm", "md"])
@pytest.mark.parametrize("length", [12, 20])
@pytest.mark.quick(40, rest="ci")
def test_day_and_month_are_told_apart_or_asked_about_whatever_stands_around(
    tmp_path, around, part, order, length
):
    days = pd.date_range("2024-01-01", periods=length)
    form = around.format(part.join(["%d", "%m", "%Y"] if order == "dm" else ["%m", "%d", "%Y"]))
    problems = Problems()  # what is no date for the parser is told as that
    series = problems.of(lambda: table(tmp_path, days.strftime(form)))
    if length == 12:
        assert any(said in "".join(problems) for said in ("day first or month first", "is not a date"))
    elif around in READ or series is not None:
        assert series is not None
        assert (series.times == days.to_numpy()).all()
