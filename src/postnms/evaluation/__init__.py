"""Truth and results in, figures out. Nothing here knows a network or candidates."""

from postnms.evaluation.columns import ResultColumns
from postnms.evaluation.metrics import FIGURES, coco_metrics, evaluate_rows
from postnms.evaluation.results import Evaluation, Gain, to_results
from postnms.evaluation.tide import ERROR_TYPES, ErrorTypes, error_types

__all__ = [
    "ERROR_TYPES",
    "FIGURES",
    "ErrorTypes",
    "Evaluation",
    "Gain",
    "ResultColumns",
    "coco_metrics",
    "error_types",
    "evaluate_rows",
    "to_results",
]
