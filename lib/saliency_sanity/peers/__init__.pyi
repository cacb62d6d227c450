from .adapter import Adapter as Adapter
from .notes import notes as notes
