"""Learned re-scoring of files of candidates.

Contextual rescoring, Sequential Context Encoding, and the duplicate removal of Relation Networks.
"""

from postnms.rescoring.config import (
    ContextualConfig,
    RelationConfig,
    SCEConfig,
    rescorer_config,
)
from postnms.rescoring.rescored import rescore
from postnms.rescoring.rescorer import Rescorer, build_network, load_rescorer
from postnms.rescoring.training import train_rescorer

__all__ = [
    "ContextualConfig",
    "RelationConfig",
    "Rescorer",
    "SCEConfig",
    "build_network",
    "load_rescorer",
    "rescore",
    "rescorer_config",
    "train_rescorer",
]
