from .classifier import Classifier as Classifier
from .classifier import Scaling as Scaling
from .classifier import network_of as network_of
from .classifier import scaling_of as scaling_of
from .classifier import submodule as submodule
