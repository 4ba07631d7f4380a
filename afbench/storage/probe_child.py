"""Open shards of a stranger's benchmark in a process with little memory and time; run as a module.

Every size inside a Parquet file is a claim: a page of a few bytes may make a reader allocate gigabytes. JSON comes in
on stdin; for each file its path goes out on a line, and what is wrong with it, or nothing, on the next.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import pyarrow.parquet as pq

from afbench.core import AfbenchError
from afbench.untrusted import require_name

from .guard import refuse_bomb
from .schema import arrow_schema, columns_of


def main() -> None:
    request = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
    for path, rows in request["files"].items():
        seconds_used = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        resource.setrlimit(
            resource.RLIMIT_CPU, (int(seconds_used) + request["seconds"], resource.RLIM_INFINITY)
        )
        print(path, flush=True)
        print(_problem(Path(request["folder"]), path, rows, request["decode"]), flush=True)


def _problem(folder: Path, path: str, rows: int, decode: bool) -> str:
    try:
        return _claim(folder, path, rows, decode)
    except MemoryError:
        return "takes too much memory to read"
    except AfbenchError as error:
        return str(error)
    except Exception as error:  # a stranger's bytes make the library raise almost anything
        lacking = type(error).__name__ == "ArrowMemoryError" or "alloc" in str(error)
        message = " ".join(str(error).split())[:120]
        return "takes too much memory to read" if lacking else f"is no readable Parquet ({message})"


def _claim(folder: Path, path: str, rows: int, decode: bool) -> str:
    with pq.ParquetFile(folder / path, pre_buffer=False, page_checksum_verification=True) as file:
        refuse_bomb(file, (folder / path).stat().st_size)
        if not file.schema_arrow.equals(arrow_schema(columns_of(path.split("/")[1]))):
            return "has other columns than a shard of its config"
        if file.metadata.num_rows != rows:
            return f"holds {file.metadata.num_rows} rows, expected {rows}"
        for batch in file.iter_batches(batch_size=1024, columns=["sample_id"], use_threads=False):
            for (name,) in zip(*batch.to_pydict().values(), strict=True):
                require_name("sample", name)
        # as many at once as readers take, so that what is read here is read there
        for _ in file.iter_batches(batch_size=16, use_threads=False) if decode else ():
            pass
    return ""


if __name__ == "__main__":
    main()
