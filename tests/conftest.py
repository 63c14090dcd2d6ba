"""Before torch and Triton are imported: one thread, since what tests compute is small, and Triton's interpreter.

Without a CUDA device the Triton kernels run under the interpreter, which must be asked for before the import.
Ctrl-C is tested, so it must not be ignored, as it is in a shell's background.
"""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start, too

import torch

signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
