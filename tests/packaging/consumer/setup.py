from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

import failsoft

headers = Path(failsoft.__file__).parent / "include"

setup(ext_modules=cythonize([Extension("consumer", ["consumer.pyx"], include_dirs=[str(headers)])]))
