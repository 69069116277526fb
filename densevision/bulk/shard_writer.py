"""The stage of a bulk prediction that writes: rows in, a shard and one row about it out. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from densevision.bulk.destination import Destination
from densevision.errors import DenseVisionError
from densevision.optional_packages import import_optional

__all__ = ["ShardWriter"]


class ShardWriter:
    """Writes the rows of a batch as a shard.

    Args:
        destination: Where to.
        schema: From `results.shards.make_schema`.
        formats: Names of `FORMATS`.
        on_error: With "fail", rows without prediction are not written.
    """

    def __init__(self, destination: Destination, schema: Any, formats: Sequence[str], on_error: str):
        self.destination, self.schema, self.formats, self.on_error = destination, schema, formats, on_error

    def __call__(self, table: Any) -> Any:
        """Writes a batch; returns a table with one row about it: rows, failed, error, source, fatal."""
        pyarrow = import_optional("pyarrow", "bulk prediction")
        compute = import_optional("pyarrow.compute", "bulk prediction")
        failures = table.filter(compute.is_valid(table["error"]))
        kept = table if self.on_error == "skip" else table.filter(compute.is_null(table["error"]))
        summary: dict[str, Any] = {"rows": table.num_rows, "failed": failures.num_rows, "fatal": None}
        summary |= {name: failures[name][0].as_py() if failures.num_rows else None for name in ("error", "source")}
        if kept.num_rows:
            columns = {name: kept[name] for name in self.schema.names}
            shard = pyarrow.Table.from_pydict(columns, schema=self.schema)
            if "png" in self.formats:
                shard = shard.append_column("png", kept["png"])
            try:
                self.destination.write_shard(shard, self.formats)
            except DenseVisionError as error:
                summary["fatal"] = str(error)
        kinds = {"rows": "int64", "failed": "int64", "fatal": "string", "error": "string", "source": "string"}
        return pyarrow.table({name: pyarrow.array([summary[name]], kind) for name, kind in kinds.items()})
