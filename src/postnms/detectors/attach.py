"""A new stage and new heads on any network."""

from collections.abc import Sequence

from postnms.detectors.detector import Detector
from postnms.detectors.network import Network
from postnms.rivals import CandidateHeads, HeadsConfig
from postnms.stage import PostNMSStage, StageConfig


def attach(
    network: Network,
    stage: StageConfig | None = StageConfig(),
    *,
    heads: HeadsConfig | None = None,
    suppressors: Sequence[str] = (),
    frozen: bool = False,
    dict_labels: Sequence[int] | None = None,
) -> Detector:
    """Put a new stage on any network, on the network's device.

    Args:
        network: a module with the members of :class:`postnms.Network`.
        stage: settings of the stage. None: the bare detector.
        heads: settings of learned rivals that look at every candidate. None: there are none.
        suppressors: further suppressors, as in :class:`Detector`.
        frozen: train only the stage and the heads.
        dict_labels: the label of each class in torchvision's dicts, as in :class:`Detector`.

    Raises ValueError for a frozen network without a stage and heads.
    """
    where = (network.levels, network.num_classes)
    built = None if stage is None else PostNMSStage(stage, *where)
    rivals = None if heads is None or heads.is_empty else CandidateHeads(heads, *where)
    detector = Detector(
        network,
        built,
        heads=rivals,
        suppressors=suppressors,
        frozen=frozen,
        dict_labels=dict_labels,
    )
    first = next(detector.get_submodule("network").parameters(), None)
    if first is not None:
        for part in filter(None, (built, rivals)):
            part.to(first.device)
    return detector
