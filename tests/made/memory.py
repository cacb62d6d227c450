"""How much memory tensors take."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive at once."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0

    def _free(self, size):
        self.alive -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            storage = result.untyped_storage()
            known = [a for a in args if isinstance(a, torch.Tensor)]
            if all(storage.data_ptr() != a.untyped_storage().data_ptr() for a in known):
                self.alive += storage.nbytes()
                weakref.finalize(result, self._free, storage.nbytes())
                self.peak = max(self.peak, self.alive)
        return result
