"""Corpora that are published as zip archives, on small imitations laid out the same way: sizes and members checked."""

import hashlib
import zipfile

import pytest

from gatelab.data import fetch
from gatelab.data.messages import DataError
from gatelab.data.text import corpora, encoded
from gatelab.data.text.module import TextDataModule

WIKI = {
    "wikitext-103/wiki.train.tokens": " \n = Title = \n \n a b c <unk> d \n" * 30,
    "wikitext-103/wiki.valid.tokens": " \n = Title = \n a b \n",
    "wikitext-103/wiki.test.tokens": " \n = Title = \n c d \n b \n",
}
ARCHIVES = {
    "wikitext103": ("wikitext-103/wikitext-103-v1.zip", WIKI),
    "text8": ("text8/text8.zip", {"text8": (" anarchism originated as a term of abuse" * 25)[:1000]}),
    "enwik8": ("enwik8/enwik8.zip", {"enwik8": ("<page>\n é & " * 100).encode()[:1000]}),
}
# words and lines of the imitation: = Title = a b c <unk> d <eos>
WIKI_TOKENS = {"train": 30 * (3 + 5 + 4), "valid": 3 + 2 + 3, "test": 3 + 2 + 1 + 4}
LEVELS = {"wikitext103": "word", "text8": "char", "enwik8": "byte"}


@pytest.fixture
def imitation(tmp_path, monkeypatch):
    """`imitation(name, members)`: the DataModule of a corpus whose published archive holds these members."""
    monkeypatch.setattr(corpora, "_CHARACTERS", {"text8": 1000, "enwik8": 1000})
    published = {("wikitext103", "word"): (8, WIKI_TOKENS)}
    monkeypatch.setattr(encoded, "PUBLISHED_TOKENS", published)

    def make(name: str, members: dict | None = None, **options) -> TextDataModule:
        file, usual = ARCHIVES[name]
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in (usual if members is None else members).items():
                archive.writestr(member, content)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setitem(fetch.SOURCES, file, fetch.SOURCES[file]._replace(sha256=sha256))
        data = TextDataModule(name, LEVELS[name], mirror=str(tmp_path), **options)
        data.setup()
        return data

    return make


def test_wikitext103_has_the_published_tokens_and_eos_on_every_line(imitation):
    data = imitation("wikitext103")
    assert data.spec.tokens == WIKI_TOKENS
    assert sorted(data.tokenizer.symbols) == ["<eos>", "<unk>", "=", "Title", "a", "b", "c", "d"]
    assert data.tokenizer.decode(data.tokens["test"]).split() == ["=", "Title", "=", "c", "d", "b"]
    assert list(data.fingerprint) == ["wikitext-103/wikitext-103-v1.zip"]


@pytest.mark.parametrize("name", ["text8", "enwik8"])
def test_the_one_text_is_cut_at_nine_tenths_and_a_half(imitation, name):
    data = imitation(name)
    assert data.spec.tokens == data.spec.characters == {"train": 900, "valid": 50, "test": 50}
    raw = ARCHIVES[name][1][name]
    raw = raw.encode() if isinstance(raw, str) else raw
    if name == "enwik8":
        assert b"".join(bytes(ids.tolist()) for ids in data.tokens.values()) == raw
        assert data.spec.vocabulary == 256
    else:
        text = "".join(data.tokenizer.decode(ids) for ids in data.tokens.values())
        assert text.encode() == raw


def test_the_real_splits_are_the_published_ones():
    text = corpora.LongText(lambda: iter([]), 0, corpora._CHARACTERS["enwik8"])
    corpus = corpora.Corpus({"train": text}, {})
    corpora._cut(corpus, corpora._DEFAULT_SPLIT["enwik8"], whole_lines=False)
    assert [len(part) for part in corpus.text.values()] == [90_000_000, 5_000_000, 5_000_000]


@pytest.mark.parametrize(
    ("name", "members", "message"),
    [
        ("text8", {"readme": "x"}, r"text8\.zip: lacks text8 \(it holds readme\)"),
        ("enwik8", {}, r"enwik8\.zip: lacks enwik8 \(it holds nothing\)"),
        ("wikitext103", {k: v for k, v in WIKI.items() if "test" not in k}, r"lacks wikitext-103/wiki\.test"),
        ("text8", {"text8": "too short"}, r"text8 has 9 characters, and 1,000 were published"),
        ("enwik8", {"enwik8": b"x" * 1001}, r"enwik8 has 1,001 characters, and 1,000 were published"),
        (
            "wikitext103",
            WIKI | {"wikitext-103/wiki.valid.tokens": " a b \n"},
            r"other tokens than the published ones \(valid: 3 tokens, not 8\)",
        ),
        (
            "wikitext103",
            WIKI
            | {"wikitext-103/wiki.train.tokens": WIKI["wikitext-103/wiki.train.tokens"].replace("c", "d")},
            r"7 different ones, not 8",
        ),
        ("text8", {"text8": "a" * 999 + "\0"}, r"text8\.zip:text8: line 1 holds a NUL byte"),
    ],
)
def test_an_archive_that_is_not_the_published_one_is_refused(imitation, name, members, message):
    replaced = dict(members)
    if "7 different" in message:  # the other splits hold no word that training lacks
        replaced["wikitext-103/wiki.test.tokens"] = WIKI["wikitext-103/wiki.test.tokens"].replace("c", "d")
    with pytest.raises(DataError, match=message):
        imitation(name, replaced)


def test_a_part_of_a_corpus_or_a_fold_has_no_published_size(imitation):
    assert sum(imitation("text8", max_characters=500).spec.tokens.values()) == 500
    assert imitation("wikitext103", folds=2, fold=0).spec.tokens["test"] == WIKI_TOKENS["test"]


def test_what_is_no_archive_is_refused(tmp_path, monkeypatch, imitation):
    imitation("text8")
    path = tmp_path / "text8" / "text8.zip"
    path.write_bytes(b"<html>404</html>")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    source = fetch.SOURCES["text8/text8.zip"]._replace(sha256=sha256)
    monkeypatch.setitem(fetch.SOURCES, "text8/text8.zip", source)
    with pytest.raises(DataError, match=r"text8\.zip: is not a zip archive"):
        TextDataModule("text8", "char", mirror=str(tmp_path)).setup()
    with pytest.raises(DataError, match="enwik8 is read at level byte only"):
        TextDataModule("enwik8", "char").setup()
