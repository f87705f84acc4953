"""Drive the tests of tests/property/test_config_inputs.py by coverage, which finds what a draw by lot would not: `python tests/fuzz.py`.

    python tests/fuzz.py test_files_and_variables 600      # one of them, for so many seconds

Needs `atheris`, which has wheels for Linux and CPython 3.11 to 3.13. The first input that fails is printed by hypothesis.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from pathlib import Path
from types import FunctionType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import atheris

from tests.property import test_config_inputs as inputs


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "test_files_and_variables"
    seconds = sys.argv[2] if len(sys.argv) > 2 else "60"
    test = getattr(inputs, name)
    with tempfile.TemporaryDirectory() as folder:
        if name == "test_files_and_variables":
            fuzz = test.hypothesis.inner_test
            test.hypothesis.inner_test = lambda *given, **named: fuzz(Path(folder), *given, **named)
        for function in gc.get_objects():  # one by one: an editable installation has loaders of its own
            if isinstance(function, FunctionType) and (function.__module__ or "").startswith("failsoft"):
                atheris.instrument_func(function)
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096"], test.hypothesis.fuzz_one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
