"""DataModules of texts with labels, and of any table: texts, or numeric columns with an id for each sequence."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal, Unpack

from gatelab.data.disk_cache import CacheEntry, cached
from gatelab.data.fetch import sha256_of
from gatelab.data.labelled.examples import Labelled, Sequences
from gatelab.data.labelled.module import LabelledDataModule, LabelledOptions
from gatelab.data.labelled.spec import Inputs, LabelledSpec
from gatelab.data.labelled.texts import (
    TextOptions,
    corpus_sources,
    encode,
    labelled_texts,
    normal,
    read_corpus,
    refuse_empty,
)
from gatelab.data.messages import DataError, few
from gatelab.data.text.kept_vocabulary import vocabulary_sha256
from gatelab.data.text.text_files import lines_of


class TextArguments(LabelledOptions, total=False):
    """Arguments of texts, see `LabelledTextDataModule`."""

    level: Literal["word", "char", "byte", "bpe"]
    vocabulary_size: int | None
    min_count: int
    lower: bool
    punctuation: Literal["kept", "apart"]
    max_length: int | None
    duplicates: Literal["keep", "drop"]
    vocabulary: str | None


class LabelledTextDataModule(LabelledDataModule):
    """Texts of a named corpus, each with its class.

    corpus: "trec": questions, by what they ask for; "names": surnames, by language.
    level: what a token is, as in `TextDataModule`. lower: lower-case the texts. punctuation: "apart": each mark is a
        word of its own; "kept": words are what stands between white space.
    vocabulary_size: keep the most frequent words or characters, or the pieces BPE learns. min_count: words that occur
        less often in training are unknown.
    max_length: tokens of a text that are read; None: all.
    vocabulary: the run whose vocabulary the texts are read with (see text/kept_vocabulary.py); vocabulary_size and
        min_count are then its own.
    duplicates: "drop": of examples with the same text and label the first alone is kept.

    The other arguments are those of `LabelledDataModule`.
    """

    inputs: ClassVar[Inputs | None] = "tokens"

    def __init__(
        self,
        corpus: Literal["trec", "names"] = "trec",
        level: Literal["word", "char", "byte", "bpe"] = "word",
        vocabulary_size: int | None = None,
        min_count: int = 1,
        lower: bool = False,
        punctuation: Literal["kept", "apart"] = "kept",
        max_length: int | None = None,
        duplicates: Literal["keep", "drop"] = "keep",
        vocabulary: str | None = None,
        **labelled: Unpack[LabelledOptions],
    ) -> None:
        super().__init__(**labelled)
        sizes = {"vocabulary_size": vocabulary_size, "min_count": min_count, "max_length": max_length}
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise DataError(f"data.{name}={value}: give at least 1")
        if punctuation == "apart" and level != "word":
            raise DataError(
                f"data.punctuation=apart makes words, and data.level={level}; give punctuation=kept"
            )
        self.corpus = corpus
        self.options = TextOptions(
            level,
            vocabulary_size,
            min_count,
            lower,
            punctuation,
            max_length,
            duplicates,
            self.split,
            self.data_seed,
            self.folds,
            self.fold,
            self.train_examples,
            vocabulary,
        )

    def _read(self) -> Labelled:
        def key() -> dict[str, Any]:
            sources = corpus_sources(self.corpus, self.mirror, self.cache)
            return {"what": f"labelled {self.corpus}", "sources": sources, **self._options()}

        def make() -> CacheEntry:
            return labelled_texts(read_corpus(self.corpus, self.mirror, self.cache), self.options).keep()

        return Labelled.restore(cached(self.cache, key, make))

    def _options(self) -> dict[str, Any]:
        """What decides the examples, for a key of the cache: of a vocabulary its content, not its place."""
        return {**asdict(self.options), "vocabulary": vocabulary_sha256(self.options.vocabulary)}

    def new_examples(self, file: Path, spec: LabelledSpec, tokenizer: Any) -> tuple[dict[str, Any], Any]:
        """Read the lines of a text file, or the column `text` of a table; see `LabelledDataModule`."""
        return self._new_texts(file, "text", spec, tokenizer)

    def _new_texts(
        self, file: Path, column: str, spec: LabelledSpec, tokenizer: Any, **file_format: str | None
    ) -> tuple[dict[str, Any], Any]:
        if file.suffix.lower() == ".txt":
            texts = lines_of(file)
            where = [f"line {number}" for number in range(1, len(texts) + 1)]
        else:
            from gatelab.data.labelled.table import column_of, read_rows

            frame = read_rows(file, self.notes, [column], True, **file_format)
            texts = column_of(frame, "text", column)
            where = [f"row {number}" for number in range(1, len(texts) + 1)]
        if not texts:
            raise DataError("the file holds no text")
        refuse_empty(texts, where)
        words = (word for text in texts for word in tokenizer.unknown_in(normal(text, self.options)))
        if unknown := list(dict.fromkeys(words)):
            self.notes.append(f"not in the run's vocabulary, so read as unknown: {few(unknown, 5)}")
        return {column: texts}, self._batches(Sequences.of(encode(tokenizer, texts, self.options)), spec)


class LabelledTableDataModule(LabelledTextDataModule):
    """The examples of a table: a text in each row, or the rows of each id.

    path: a CSV or Parquet file. label: the column of the classes; a number is a class as well.
    text: the column of the texts; the arguments of `LabelledTextDataModule` say how they are read.
    id: without `text`, the column that says which rows belong together; their label is the same. time: the column that
        puts them in order; None: they are in order. channels: columns of numbers, standardised by the rows that train;
        None: all. max_length is then of steps.
    split_column: the column that says train, valid or test; None: `split` shares the examples out.
    separator, decimal, encoding: of a CSV file; None: found out.
    """

    inputs = None  # its columns decide

    def __init__(
        self,
        path: str,
        label: str,
        text: str | None = None,
        id: str | None = None,
        time: str | None = None,
        channels: list[str] | None = None,
        split_column: str | None = None,
        separator: str | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
        **texts: Unpack[TextArguments],
    ) -> None:
        super().__init__(**texts)
        if (text is None) == (id is None):
            raise DataError(
                "give data.text=COLUMN, a text in each row, or data.id=COLUMN, whose rows belong together, not both"
            )
        if text is not None and (time is not None or channels is not None):
            raise DataError("data.time and data.channels are of numbers by data.id; data.text needs neither")
        if channels == []:
            raise DataError("data.channels is empty; give columns, or null for all")
        _refuse_two_parts(
            label=[label],
            text=[text],
            id=[id],
            time=[time],
            split_column=[split_column],
            channels=channels or [],
        )
        self.path = path
        self.columns = (label, text, id, time, channels, split_column)
        self.file_format = {"separator": separator, "decimal": decimal, "encoding": encoding}

    at_hand = True

    def _read(self) -> Labelled:
        file = Path(self.path).expanduser()

        def key() -> dict[str, Any]:
            source = {file.name: sha256_of(file) if file.is_file() else None}
            options = {"columns": self.columns, **self.file_format, **self._options()}
            return {"what": "labelled table", "source": source, **options}

        def make() -> CacheEntry:
            from gatelab.data.labelled.table import TableColumns, read_labelled_table

            columns = TableColumns(*self.columns)
            return read_labelled_table(self.path, columns, self.options, self.file_format).keep()

        return Labelled.restore(cached(self.cache, key, make))

    def new_examples(self, file: Path, spec: LabelledSpec, tokenizer: Any) -> tuple[dict[str, Any], Any]:
        """Read a table with the run's text column, or a text file; or with its id, time and channels."""
        _, text, id, time, *_ = self.columns
        if text is not None:
            return self._new_texts(file, text, spec, tokenizer, **self.file_format)
        from gatelab.data.labelled.table import first_steps, read_rows, series_of

        rows = read_rows(file, self.notes, [id], False, **self.file_format)
        series = series_of(rows, str(id), time, spec.names, self.notes)
        most = self.options.max_length
        sequences = series.sequences if most is None else first_steps(series.sequences, most)
        return {str(id): series.ids}, self._batches(sequences, spec)


def _refuse_two_parts(**columns: Sequence[str | None]) -> None:
    """Raise `DataError` where two settings name one column, or one names it twice: a label is no input."""
    taken: dict[str, str] = {}
    for key, names in columns.items():
        for name in filter(None, names):
            if name in taken:
                both = (
                    f"data.{key} and data.{taken[name]} both name"
                    if key != taken[name]
                    else f"data.{key} names twice"
                )
                raise DataError(f"{both} the column {name!r}; it has one part")
            taken[name] = key
