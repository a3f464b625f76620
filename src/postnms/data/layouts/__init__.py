"""What a data folder is: one file for each layout, and what was found in a folder."""

from postnms.data.layouts.found import FoundData, FoundSplit, canonical
from postnms.data.layouts.recognise import fitting_layouts, recognise

__all__ = ["FoundData", "FoundSplit", "canonical", "fitting_layouts", "recognise"]
