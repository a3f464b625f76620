"""A trained detector as one object: images of any kind in, predictions out."""

from postnms.prediction.model import Model, load
from postnms.prediction.prediction import Prediction

__all__ = ["Model", "Prediction", "load"]
