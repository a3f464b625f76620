"""The weights with the best AP among the evaluations of a run."""

from postnms.detectors import Detector
from postnms.errors import UserError
from postnms.evaluation.results import Evaluation
from postnms.files.state_dicts import load_weights
from postnms.files.tensor_files import load_tensors, save_tensors
from postnms.runs.checkpoints import model_state, own_state
from postnms.runs.folder import RunFolder


class BestWeights:
    """Keeps the weights of the evaluation with the best AP, of the last row of the detector.

    The file itself knows its AP, so a run that is resumed goes on with it. Of two evaluations with
    the same AP the first one counts.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.best
        self.ap = _read_ap(folder)

    def offer(self, detector: Detector, evaluation: Evaluation, finished: int) -> None:
        """Write the weights after ``finished`` iterations if they are better than all before."""
        row = detector.row_names[-1]
        ap = evaluation.rows[row]["AP"]
        if ap is None or (self.ap is not None and ap <= self.ap):
            return
        self.ap = ap
        facts = {"ap": ap, "row": row, "finished": finished}
        save_tensors(self.path, model_state(detector), facts)


def load_best(folder: RunFolder, detector: Detector, finished: int) -> bool:
    """Load the best weights of a run into its detector, unless they are those that it has.

    ``finished`` is the number of iterations of the weights of the detector. Returns whether other
    weights were loaded.
    """
    if not folder.best.is_file():  # No evaluation had an AP.
        return False
    tensors, facts = load_tensors(folder.best)
    if facts.get("finished") == finished:
        return False
    load_weights(detector, own_state(tensors), str(folder.best))
    return True


def _read_ap(folder: RunFolder) -> float | None:
    """Return the AP of the best weights so far. None: there are none, or they are damaged."""
    if not folder.best.is_file():
        return None
    try:
        ap = load_tensors(folder.best)[1].get("ap")
    except UserError:
        return None
    return ap if isinstance(ap, float) else None
