"""Two processes that share a split: ``python -m tests.support.shared_split FOLDER``.

Each writes what it saw to ``RANK.json`` in the folder, which holds the split ``t.json``. They are
forked, so that torch is imported once.
"""

import json
import os
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

from postnms.data.digest import digest_of
from postnms.data.formats.coco import read_coco
from postnms.data.shared import read_once
from postnms.distributed.processes import end_processes, this_process
from postnms.errors import UserError
from tests.support.processes import free_port


def main(folder, port, rank):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    tempfile.tempdir = str(folder / "temporary")
    Path(tempfile.tempdir).mkdir(exist_ok=True)
    reads = []

    def read():
        reads.append(1)
        return read_coco(folder / "t.json", folder)

    def broken():
        raise UserError("broken", argument="data")

    dataset = read_once(read)
    error = ""
    try:
        read_once(broken)
    except UserError as raised:
        error = str(raised)
    process = this_process()
    process.wait_for_everyone()
    left = [path.name for path in Path(tempfile.tempdir).glob("postnms-*")]
    about = {"reads": len(reads), "digest": digest_of(dataset, dataset)}
    text = json.dumps({**about, "error": error, "left": left})
    (folder / f"{process.process_index}.json").write_text(text)
    end_processes()


if __name__ == "__main__":
    places = (Path(sys.argv[1]), free_port())
    started = [get_context("fork").Process(target=main, args=(*places, rank)) for rank in (0, 1)]
    for one in started:
        one.start()
    for one in started:
        one.join()
    sys.exit(max(abs(one.exitcode) for one in started))
