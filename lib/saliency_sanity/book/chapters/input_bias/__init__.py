"""The chapter on what a map owes to the input it is multiplied by: a page, and its sections."""

from saliency_sanity.book.chapters.input_bias.colours import Colours
from saliency_sanity.book.chapters.input_bias.dark_objects import DarkObjects
from saliency_sanity.book.chapters.input_bias.following import FirstLayer, Following
from saliency_sanity.book.chapters.input_bias.negatives import Negatives
from saliency_sanity.book.chapters.input_bias.page import InputBias
from saliency_sanity.book.chapters.input_bias.sanity import Sanity
from saliency_sanity.book.chapters.input_bias.switches import Switches

__all__ = [
    "Colours",
    "DarkObjects",
    "FirstLayer",
    "Following",
    "InputBias",
    "Negatives",
    "Sanity",
    "Switches",
]
