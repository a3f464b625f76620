"""Hold a folder for a long time: ``python -m tests.support.holder FOLDER COMMAND``."""

import sys
import time
from pathlib import Path

from postnms.files.locks import hold_folder

if __name__ == "__main__":
    with hold_folder(Path(sys.argv[1]), sys.argv[2]):
        time.sleep(600)
