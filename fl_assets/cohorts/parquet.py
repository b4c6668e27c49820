"""An uploaded Parquet file as the text that a CSV of it would hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from fl_assets.cohorts.formats import DamagedFileError, EncodingError
from fl_assets.errors import BadDataError


class NotFlatError(BadDataError):
    """A Parquet column whose values are no single fields."""


class ParquetText:
    """A Parquet file, its values as text.

    Whole numbers have no decimal point also where the column is of floating point, since an id or
    a code must be the same in every kind of file; truth is 1 and 0.

    Args:
        stream: seekable.
        name: of the file, for messages.
        missing: how a missing value is spelt; a NaN is one.

    Raises:
        DamagedFileError: the end of the file, which describes the rest, cannot be read.
    """

    def __init__(self, stream: BinaryIO, name: str, missing: str) -> None:
        self._name = name
        self._missing = missing
        try:
            self._file = pq.ParquetFile(stream, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise self._damage(error, "its end, which describes the rest, cannot be read") from None
        self.columns = [field.name.strip() for field in self._file.schema_arrow]

    def batches(self, rows: int) -> Iterator[dict[str, list[str]]]:
        """Yield the columns by name, that many rows at a time.

        Raises:
            DamagedFileError: a part of the file cannot be read.
            NotFlatError: a column of lists, structures or bytes.
            EncodingError: a text with a NUL in it.
        """
        for place, field in enumerate(self._file.schema_arrow, 1):
            if pa.types.is_nested(field.type) or _is_binary(field.type):
                raise NotFlatError(
                    f"{self._name}: column {place} is of type {field.type}: write one number or "
                    "text per field"
                )
        batches = self._file.iter_batches(batch_size=rows)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise self._damage(error, "a part of its data cannot be read") from None
            if batch is None:
                return
            if batch.num_rows:
                columns = zip(self.columns, batch.columns, strict=True)
                yield {name: self._texts(column) for name, column in columns}

    def _damage(self, error: Exception, why: str) -> Exception:
        # A stream's own fault, as of a network, has a number; it may be gone at the next try.
        if isinstance(error, OSError) and (error.errno or type(error) is not OSError):
            return error
        return DamagedFileError(self._name, "Parquet", why)

    def _texts(self, column: pa.Array[Any]) -> list[str]:
        if isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        kind = column.type
        if pa.types.is_boolean(kind):
            column = column.cast(pa.int8())
        if pa.types.is_floating(kind):
            values = column.to_pylist()
            return [self._missing if v is None or v != v else _number(v) for v in values]
        texts: list[str] = column.cast(pa.string()).fill_null(self._missing).to_pylist()
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            texts = [text.strip() for text in texts]
            if any("\0" in text for text in texts):
                raise EncodingError(self._name, "has a NUL byte in a text")
        return texts


def _is_binary(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(check(kind) for check in kinds)


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")
