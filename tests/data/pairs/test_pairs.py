"""Sentence pairs: read from files of any kind or refused by file and line, encoded by the training split alone."""

import gzip

import numpy as np
import pandas as pd
import pytest
import torch

from gatelab.data.messages import DataError
from gatelab.data.pairs.baselines import dictionary, word_by_word
from gatelab.data.pairs.module import PairsDataModule
from gatelab.data.pairs.read import read_files, read_table
from gatelab.data.pairs.scores import signatures, translation_scores
from gatelab.data.specs import IGNORE
from gatelab.data.text.tokenizer import SentenceTokenizer, tokenizer_from_dict

SOURCES = [
    f"Der {thing}, Nummer {n}." for n in range(10) for thing in ("Hund", "Baum", "Mann", "kleine Stein")
]
TARGETS = [f"The {thing}, number {n}." for n in range(10) for thing in ("dog", "tree", "man", "small stone")]


def write(folder, name, lines):
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def files(tmp_path):
    return {"source": write(tmp_path, "a.de", SOURCES), "target": write(tmp_path, "a.en", TARGETS)}


def pairs(**options):
    data = PairsDataModule(corpus="pairs", **options)
    data.prepare_data()
    data.setup()
    return data


def test_two_files_a_tsv_and_a_csv_are_the_same_pairs(files, tmp_path):
    rows = list(zip(SOURCES, TARGETS, strict=True))
    tsv = write(tmp_path, "both.tsv", ["de\ten", *(f"{one}\t{other}" for one, other in rows)])
    csv = write(tmp_path, "both.csv", ["n,de,en", *(f'1,"{one}","{other}"' for one, other in rows)])
    packed = tmp_path / "a.de.gz"
    packed.write_bytes(gzip.compress("\n".join(SOURCES).encode()))
    ways = [
        pairs(**files),
        pairs(source=str(packed), target=files["target"]),
        pairs(path=tsv, source="de", target="en"),
        pairs(path=csv, source="de", target="en"),
    ]
    for data in ways:
        assert data.pairs["train"][:2] == (SOURCES[:36], TARGETS[:36])
        assert data.spec == ways[0].spec
    assert ways[0].fingerprint.keys() == {"a.de", "a.en"}
    assert ways[0].notes == ["cut into train 36, valid 2, test 2 pairs, in their order"]


def parquet(folder, name, frame):
    frame.to_parquet(folder / name)
    return str(folder / name)


@pytest.mark.parametrize("ending", ["parquet", "pq"])
@pytest.mark.parametrize("nested", [False, True])
def test_pairs_in_parquet_are_those_of_a_table(files, tmp_path, ending, nested):
    """In two columns, or as fields of one."""
    frame = pd.DataFrame({"n": range(40), "de": SOURCES, "en": TARGETS})
    if nested:
        frame = pd.DataFrame({"translation": frame[["de", "en"]].to_dict("records")})
    data = pairs(path=parquet(tmp_path, f"both.{ending}", frame), source="de", target="en")
    assert data.spec == pairs(**files).spec
    assert data.pairs["train"][:2] == (SOURCES[:36], TARGETS[:36])
    assert list(data.fingerprint) == [f"both.{ending}"]
    parts = {f"{name}path": frame[a:b] for name, a, b in (("", 0, 30), ("valid_", 30, 36), ("test_", 36, 40))}
    split = pairs(
        **{key: parquet(tmp_path, f"{key}.{ending}", part) for key, part in parts.items()},
        source="de",
        target="en",
    )
    assert {name: len(part.sources) for name, part in split.pairs.items()} == {
        "train": 30,
        "valid": 6,
        "test": 4,
    }


BAD_PARQUET = {
    "column": (
        {"de": ["a"], "en": ["b"]},
        {"target": "sv"},
        r"data\.target names the column 'sv', .*There are de, en",
    ),
    "near": ({"de": ["a"], "english": ["b"]}, {"target": "englisch"}, "Did you mean 'english'"),
    "empty": (
        {"de": ["a", None], "en": ["b", "c"]},
        {},
        r"column de: row 2 is empty, and its other side is 'c'",
    ),
    "blank": (
        {"de": ["a", "x"], "en": ["b", "  "]},
        {},
        r"column en: row 2 is empty, and its other side is 'x'",
    ),
    "none": ({"de": [None], "en": [None]}, {}, "holds no sentence"),
    "rows": ({"de": [], "en": []}, {}, "the table has no rows"),
    "lists": ({"de": [["a"]], "en": [["b"]]}, {}, "write one word or text in a cell"),
    "field": ({"translation": [{"de": "a", "en": "b"}]}, {"target": "sv"}, "'sv', which does not exist"),
    "near field": ({"t": [{"de": "a", "en": "b"}]}, {"target": "EN"}, "'EN', which .* Did you mean 'en'"),
    "lists in fields": (
        {"t": [{"de": ["a", "b"], "en": ["c", "d"]}]},
        {},
        "'de', row 1 holds array.*one word or text",
    ),
    "no first field": ({"t": [None, {"de": "a", "en": None}]}, {}, "column en: row 2 is empty"),
}


@pytest.mark.parametrize("case", BAD_PARQUET)
def test_parquet_that_cannot_be_used_is_refused_by_its_row(tmp_path, case):
    columns, options, said = BAD_PARQUET[case]
    options = {"source": "de", "target": "en"} | options
    with pytest.raises(DataError, match=said):
        pairs(
            path=parquet(tmp_path, "both.parquet", pd.DataFrame(columns)),
            **{"source": "de", "target": "en"} | options,
        )


def test_a_comment_above_a_table_of_pairs_is_told(tmp_path):
    rows = [f"{one}\t{other}" for one, other in zip(SOURCES, TARGETS, strict=True)]
    data = pairs(path=write(tmp_path, "both.tsv", ["# of 2024", "de\ten", *rows]), source="de", target="en")
    assert data.notes[0] == (
        "both.tsv: line 2 was taken for the header; 1 line above it that begins with # left out"
    )
    assert len(data.pairs["train"].sources) == 36


def test_a_batch_is_the_sentences_and_nothing_else(files):
    data = pairs(**files)
    batch = data.batch("train", np.arange(2))
    tokenizer = data.tokenizer
    assert batch.texts.references == TARGETS[:2]
    for b in range(2):
        length = int(batch.lengths[b])
        source = batch.source[:, b]
        assert tokenizer.source.decode(source[: length - 1]) == SOURCES[b]
        assert bool((source[length - 1 :] == tokenizer.source.seed_token).all())
        scored = batch.targets[:, b] != IGNORE
        targets = batch.targets[scored, b]
        assert tokenizer.decode(targets[:-1]) == TARGETS[b]
        assert targets[-1] == batch.inputs[0, b] == data.spec.seed_token
        assert torch.equal(batch.inputs[1:, b][scored[1:]], targets[:-1])
    whole = data.batch("valid", np.arange(2)).targets
    assert data.spec.tokens["valid"] == int((whole != IGNORE).sum())
    trained = next(iter(data.train_dataloader()))
    assert trained.texts is None


def test_the_vocabulary_knows_the_training_pairs_alone(files):
    data = pairs(**files, split=[0.5, 0.25, 0.25], min_count=2)
    assert "9" not in data.tokenizer.target.index
    assert data.spec.unknown["train"] == 0
    assert data.spec.unknown["test"] == 10
    assert data.tokenizer.unknown_in("Der Hund, Nummer 9. Ja") == ["9", "Ja"]
    rare = pairs(**files, min_count=10)
    assert "0" not in rare.tokenizer.target.index
    assert "dog" not in rare.tokenizer.target.index  # nine times in training


@pytest.mark.parametrize("level", ["word", "char", "bpe"])
@pytest.mark.parametrize("joint", [False, True])
def test_every_level_gives_text_back_and_survives_its_record(files, level, joint):
    size = 300 if level == "bpe" else None
    data = pairs(**files, level=level, joint=joint, vocabulary_size=size)
    again = tokenizer_from_dict(data.tokenizer.to_dict())
    for tokenizer in (data.tokenizer, again):
        for sentence in TARGETS[:5]:
            assert tokenizer.decode(tokenizer.read(sentence, tokenizer.target)[:-1]) == sentence
    assert (again.source is again.target) == joint
    assert data.spec.source_vocabulary == (0 if joint else data.tokenizer.source.size)


def test_lower_case_is_that_of_both_sides_and_not_of_the_references(files):
    data = pairs(**files, lower=True)
    assert "the" in data.tokenizer.target.index
    assert "The" not in data.tokenizer.target.index
    assert torch.equal(data.tokenizer.encode("DER Hund."), data.tokenizer.encode("der hund."))
    assert data.batch("valid", [0]).texts.references == TARGETS[36:37]


def test_folds_validate_on_every_pair_once(files):
    seen = []
    for fold in range(3):
        data = pairs(**files, split=[0.5, 0.25, 0.25], folds=3, fold=fold)
        seen += data.pairs["valid"].targets
        assert not set(data.pairs["valid"].targets) & set(data.pairs["train"].targets)
    assert seen == TARGETS[:30]


WRONG = [
    (["a", "b", "c"], ["a", "b"], {}, r"a\.de has 3 lines and data\.target=.*a\.en 2; line n of one"),
    (["a", "b"], ["a", ""], {}, r"a\.en: line 2 is empty, and its other side is 'b'"),
    (["  ", "b"], ["a", "b"], {}, r"a\.de: line 1 is empty, and its other side is 'a'"),
    ([""], [""], {}, "holds no sentence"),
    (["a"], ["b"], {}, r"data\.split=.* split of 1 pair is empty"),
    (["a"], ["b"], {"valid_source": "x.txt"}, r"data\.valid_source and data\.valid_target: give both"),
    (["a"], ["b"], {"test_source": "{a}", "test_target": "{a}"}, "without validation pairs"),
    (["a"], ["b"], {"valid_path": "x.tsv"}, r"data\.valid_path goes with data\.path"),
    (["a"], ["b"], {"min_count": 2, "level": "bpe"}, r"data\.min_count=2 is for words and characters"),
    (["a"], ["b"], {"bleu_tokenizer": "14a"}, r"data\.bleu_tokenizer=14a: sacrebleu has 13a"),
    (["a"], ["b"], {"batch_tokens": 0}, r"data\.batch_tokens=0"),
    (["a"], ["b"], {"source": "nowhere.txt"}, r"data\.source=nowhere\.txt: there is no such file"),
]


@pytest.mark.parametrize(("sources", "targets", "options", "said"), WRONG)
def test_pairs_that_cannot_be_used_are_refused_by_file_and_line(sources, targets, options, said, tmp_path):
    named = {"source": write(tmp_path, "a.de", sources), "target": write(tmp_path, "a.en", targets)}
    given = {key: named["source"] if value == "{a}" else value for key, value in options.items()}
    with pytest.raises(DataError, match=said):
        pairs(**{**named, **given})


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("a.tsv", ["de\ten", "ja\tyes", "nein"], r"line 3 has 1 field, and 2 columns"),
        (
            "a.tsv",
            ["de\ten", "ja\tyes", "\tno"],
            r"a\.tsv, column de: line 3 is empty, and its other side is 'no'",
        ),
        (
            "a.tsv",
            ["De\tEn", "ja\tyes"],
            r"data\.source names the column 'de', which does not exist\. Did you mean 'De'",
        ),
        ("a.csv", ["de,en", '"ja,yes'], "line 2: a quote begins a field and is not closed"),
        ("a.json", ["{}"], r"data\.path=.*a\.json: give a \.tsv, \.csv or \.parquet file"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_its_line(name, lines, said, tmp_path):
    with pytest.raises(DataError, match=said):
        pairs(path=write(tmp_path, name, lines), source="de", target="en")


@pytest.mark.parametrize("options", [{}, {"folds": 4, "fold": 1}])
def test_fewer_training_pairs_are_scored_on_the_same_others(files, options):
    whole, few = pairs(**files, **options), pairs(**files, **options, max_pairs=3)
    assert few.pairs["train"].sources == whole.pairs["train"].sources[:3]
    assert {split: few.pairs[split][:2] for split in ("valid", "test")} == {
        split: whole.pairs[split][:2] for split in ("valid", "test")
    }


def test_pairs_that_are_in_training_too_are_told(files):
    data = pairs(**files, valid_source=files["source"], valid_target=files["target"])
    assert data.notes == ["valid: 40 of 40 pairs are in train too"]
    assert data.splits == ("train", "valid")


def test_each_of_two_files_of_one_name_is_known_by_its_content(files, tmp_path):
    (other := tmp_path / "valid").mkdir()
    valid = {
        "valid_source": write(other, "a.de", SOURCES[:9]),
        "valid_target": write(other, "a.en", TARGETS[:9]),
    }
    before = pairs(**files, **valid).fingerprint
    assert sorted(before) == ["a.de", "a.en", "valid/a.de", "valid/a.en"]
    write(tmp_path, "a.de", [*SOURCES[:-1], "Der Berg."])
    changed = {name for name, sha256 in pairs(**files, **valid).fingerprint.items() if before[name] != sha256}
    assert changed == {"a.de"}


def test_a_sentence_that_makes_a_batch_slow_is_told(files, tmp_path):
    files["source"] = write(tmp_path, "long.de", [SOURCES[0], " ".join(["Hund"] * 600), *SOURCES[2:]])
    told = "train: pair 2 has 601 tokens, the middle one 7;"  # ends included
    assert [note for note in pairs(**files).notes if note.startswith(told)]
    assert not [note for note in pairs(**files, max_pairs=1).notes if " tokens, " in note]


# tokens of sentences


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("young, (white) men's", ["young", "\uffed,", "(\uffed", "white", "\uffed)", "men", "\uffed's"]),
        ("T-shirt: 3!?", ["T", "\uffed-\uffed", "shirt", "\uffed:", "3", "\uffed!", "\uffed?"]),
        ("'so' - so", ["'\uffed", "so", "\uffed'", "-", "so"]),
        ("<eos> <unk>", ["<\uffed", "eos", "\uffed>", "<\uffed", "unk", "\uffed>"]),
        ("l'homme d’été", ["l", "\uffed'homme", "d", "\uffed’été"]),
    ],
)
def test_words_and_marks_are_apart_and_come_together_again(text, parts):
    assert SentenceTokenizer.split(text) == parts
    tokenizer = SentenceTokenizer.train(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_an_unknown_word_is_the_unknown_token():
    tokenizer = SentenceTokenizer.train("the dog.")
    assert tokenizer.decode(tokenizer.encode("the cat.")) == "the <unk>."
    assert tokenizer.count_unknown("the cat.", tokenizer.encode("the cat.")) == 1


# scores and baselines


def test_the_references_against_themselves_are_perfect():
    assert translation_scores(TARGETS, TARGETS) == pytest.approx(
        {"bleu": 100, "chrf": 100, "bleu_lower": 100}
    )
    assert signatures()["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_case_counts_in_the_main_score_only():
    scores = translation_scores([text.lower() for text in TARGETS], TARGETS)
    assert scores["bleu"] < 100
    assert scores["bleu_lower"] == pytest.approx(100)


def test_a_score_is_from_counts_of_the_whole_corpus():
    """BLEU by hand: the geometric mean of the shares of n-grams that match; nothing is shorter than its reference."""
    said = ["the dog runs in the park now", "a cat sleeps on the mat"]
    meant = ["the dog runs in the park", "a cat sits on the mat"]
    found = translation_scores(said, meant)["bleu"]
    matches = [(11, 13), (8, 11), (5, 9), (3, 7)]
    expected = 100 * np.exp(np.mean([np.log(right / all_) for right, all_ in matches]))
    assert found == pytest.approx(expected, rel=1e-6)


WORDS = {
    "der": "the",
    "hund": "dog",
    "sieht": "sees",
    "einen": "a",
    "baum": "tree",
    "alt": "old",
    "im": "in",
    ",": ",",
}


@pytest.fixture
def drawn(tmp_path):
    """Sentences of words drawn at random, translated word by word."""
    draw = np.random.default_rng(0)
    lines = [draw.choice(list(WORDS), 4, replace=False) for _ in range(200)]
    source = write(tmp_path, "drawn.de", [" ".join(line) for line in lines])
    target = write(tmp_path, "drawn.en", [" ".join(WORDS[word] for word in line) for line in lines])
    return pairs(source=source, target=target)


def test_the_dictionary_finds_words_that_occur_together(drawn):
    words = dictionary(drawn.pairs["train"])
    assert words == WORDS
    assert word_by_word(["Der Hund, im Xyz!"], words) == ["the dog, in Xyz!"]


def test_the_baselines_stand_over_every_sentence(drawn):
    found = drawn.baselines("valid")
    assert found["dictionary"] == pytest.approx(
        {"bleu": 100, "chrf": 100, "bleu_lower": 100, "sentences": 10}
    )
    assert found["copy"]["bleu"] < 20


def test_multi30k_is_the_published_one(mirror):
    if not (mirror / "multi30k").is_dir():
        pytest.skip("multi30k is not in the mirror")
    data = PairsDataModule(pair="en-de", min_count=2, max_pairs=300)
    data.setup()
    assert data.spec.pairs == {"train": 300, "valid": 1014, "test": 1000}
    assert data.pairs["test"].targets[0] == "Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt."
    assert len(data.fingerprint) == 6


@pytest.mark.parametrize("joint", [True, False])
def test_pieces_are_drawn_anew_as_seed_epoch_and_number_decide(files, joint):
    def epoch(number, skip=0, **options):
        options = {"bpe_dropout": 0.3, "batch_size": 8, **options}
        data = pairs(**files, level="bpe", joint=joint, vocabulary_size=320, lower=True, **options)
        data.first_epoch, data.skip_batches = number, skip
        return data, list(data.train_dataloader())

    def same(some, others):
        return len(some) == len(others) and all(
            all(map(torch.equal, a[:4], b[:4])) for a, b in zip(some, others, strict=True)
        )

    data, whole = epoch(2)
    assert same(whole, epoch(2)[1])
    assert same(whole[2:], epoch(2, skip=2)[1])  # a run that goes on inside an epoch sees the same
    assert same(whole, epoch(2, num_workers=1)[1])
    for other in (epoch(1), epoch(2, seed=1), epoch(2, bpe_dropout=0.0)):
        assert not same(whole, other[1])
    read = [data.tokenizer.decode(row[row != IGNORE]) for batch in whole for row in batch.targets.T]
    assert sorted(read) == sorted(text.lower() for text in data.pairs["train"].targets)
    plain = epoch(2, bpe_dropout=0.0)[0]
    assert same(list(data.val_dataloader()), list(plain.val_dataloader()))


def test_dropout_of_pieces_is_refused_for_words(files):
    with pytest.raises(DataError, match=r"data\.bpe_dropout=0\.1 is for pieces: take data\.level=bpe"):
        pairs(**files, bpe_dropout=0.1)


SENTENCES = [("Guten Morgen.", "Good morning."), ("Haus", "house"), ("Wie geht es?", "How are you?")]


@pytest.mark.parametrize("mark", ["\t", ",", ";"])
@pytest.mark.parametrize("first", range(len(SENTENCES)))
@pytest.mark.parametrize("names", [("de", "en"), ("source", "target")])
def test_a_first_pair_is_not_taken_for_a_header_in_silence(tmp_path, mark, first, names):
    path = tmp_path / ("t.tsv" if mark == "\t" else "t.csv")
    rows = SENTENCES[first:] + SENTENCES[:first]
    path.write_text("".join(f"{one}{mark}{other}\n" for one, other in rows))
    with pytest.raises(
        DataError, match=rf"(?s)2 problems:.* {names[0]!r}, .*if that is a row, write the names"
    ) as told:
        read_table("data.path", str(path), *names)
    assert all(side in str(told.value) for side in SENTENCES[first])
    notes: list[str] = []
    read = read_table("data.path", str(path), *SENTENCES[first], notes)
    assert len(read.sources) == len(rows) - 1
    assert notes == [f"{path.name}: the header ({SENTENCES[first][0]!r}, {SENTENCES[first][1]!r}) is no pair"]


@pytest.mark.parametrize("table", [True, False])
def test_pairs_without_text_are_left_out_and_told(tmp_path, table):
    notes: list[str] = []
    if table:
        (tmp_path / "t.tsv").write_text("de\ten\nHaus\thouse\n \t\u200b\nHund\tdog\n")
        pairs = read_table("data.path", str(tmp_path / "t.tsv"), "de", "en", notes)
    else:
        for name, words in (("a", "Haus\n\n\nHund\n"), ("b", "house\n \n\ndog\n")):
            (tmp_path / name).write_text(words)
        pairs = read_files("data.source", str(tmp_path / "a"), "data.target", str(tmp_path / "b"), notes)
    assert pairs.sources == ["Haus", "Hund"]
    left = "line 3" if table else "line 2, line 3"
    assert notes[-1].endswith(f": left out, without text on both sides: {left}")
