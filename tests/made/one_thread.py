"""One thread for this process, for kernels and for whatever else tests start, as all inherit it.

On networks this small a second thread costs more than it brings, and other tests need the cores.
"""

import os

# Read once, when torch and NumPy are imported.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
