#!/bin/sh
# The NumPy reference agrees with itself, every vector file belongs to the model beside it, and the
# independent encoders give the ids in the files of cases.
cd "$(dirname "$0")/../.." || exit 1
python=${PYTHON:-/usr/bin/python3}
"$python" -c 'import numpy' 2>/dev/null || { echo "no NumPy (Debian: python3-numpy)"; exit 77; }
OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 "$python" tests/ref/check.py && PYTHONDONTWRITEBYTECODE=1 "$python" tests/ref/make_spm.py --check
