"""Check the records of studies in experiments/: does each page say what its results.csv says?

A record of studies (it has a record.json; `gatelab.report.experiment_record` writes it) is checked without the
studies and without training: the page is made again from results.csv and compared, and the figure must have been drawn
from the same data. Exits with 1 if anything differs. The other records have checks of their own.

example:
  python -m scripts.checks.experiments
"""

import sys
from pathlib import Path

from gatelab.report.experiment_record import check_record
from gatelab.run import RequestError
from scripts.harness import ROOT, parser


def main() -> int:
    p = parser(__doc__)
    p.add_argument("records", nargs="*", type=Path, metavar="DIR", help="default: those in experiments/")
    given = p.parse_args()
    records = given.records or sorted(file.parent for file in ROOT.glob("experiments/*/record.json"))
    problems = 0
    for record in records:
        try:
            found = check_record(record)
        except RequestError as error:
            found = [str(error)]
        print(f"{'FAILED' if found else 'ok    '} {record.name}")
        for problem in found:
            print(f"       {problem}")
        problems += len(found)
    print(f"{len(records)} records of studies")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
