"""Loading of weights that were trained on other classes.

The layers whose size depends on the number of classes start anew. All other layers must fit, so a
wrong network is never started from random weights in silence.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from postnms.files.state_dicts import load_weights

SHOWN = 5
"""Largest number of modules without a place in the model that a message names."""
CHAINS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Modules whose children follow one another. A further child means that the source is deeper."""


def load_fitting_weights(
    module: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    class_layers: Sequence[str],
    outputs: int,
    *,
    renew: bool = False,
    may_lack: Sequence[str] = (),
) -> str:
    """Load a state dict into a module, except for class layers that belong to other classes.

    If one of the class layers is missing in the state dict, or has another number of rows there,
    all class layers keep the weights that they have. Whole modules that the module does not have,
    for example a mask head, are left out. Everything else must fit exactly.

    Args:
        module: the module, which is changed in place.
        state: tensors by name.
        source: the name of the file or run that the tensors come from.
        class_layers: names of the layers whose size depends on the number of classes. ``*`` stands
            for any one part of a name.
        outputs: number of outputs of the module's classifier.
        renew: the classes are known to differ, so class layers keep their weights in any case.
        may_lack: names of layers, as in ``class_layers``, that keep the weights that they have if
            the state dict has nothing of them. This renews no other layer.

    Returns:
        What was not loaded, in a few words. It is empty if everything was.

    Raises:
        UserError: as :func:`postnms.files.state_dicts.load_weights`.
    """
    own = module.state_dict()
    absent = [layer for layer in may_lack if not any(_is_in(name, [layer]) for name in state)]
    initial = {name: value for name, value in own.items() if _is_in(name, absent)}
    of_classes = {name: value for name, value in own.items() if _is_in(name, class_layers)}
    resized = {
        name: state[name]
        for name, value in of_classes.items()
        if name in state and _differs_in_classes(state[name], value, outputs)
    }
    missing = [name for name in of_classes if name not in state and name not in initial]
    # A class layer that does not fit in another way is an error, which loading it raises.
    fresh = {
        name: value
        for name, value in of_classes.items()
        if name not in state or name in resized or state[name].shape == value.shape
    }
    if not (renew or resized or missing):
        fresh = {}
    unused = [name for name in state if _has_no_place(module, name)]
    used = {name: value for name, value in state.items() if name not in unused}
    load_weights(module, used | initial | fresh, source)
    if resized:
        name, value = next(iter(resized.items()))
        reason = f"{len(value) * outputs // len(own[name])} -> {outputs} outputs"
    else:
        reason = "other classes" if renew else "not in the file"
    words = [f"renewed: {', '.join(class_layers)} ({reason})"] if fresh else []
    if initial.keys() - fresh.keys():
        words.append(f"initial: {', '.join(absent)} (not in the file)")
    return "; ".join(words + ([f"unused: {_summary(unused)}"] if unused else []))


def _is_in(name: str, layers: Sequence[str]) -> bool:
    """Return whether a tensor belongs directly to one of the layers."""
    parts = name.split(".")[:-1]
    return any(
        len(wanted) == len(parts)
        and all(w in ("*", part) for w, part in zip(wanted, parts, strict=True))
        for wanted in (layer.split(".") for layer in layers)
    )


def _differs_in_classes(given: Tensor, own: Tensor, outputs: int) -> bool:
    """Return whether two tensors differ only in rows, and by a whole number of classes."""
    if not given.ndim or not own.ndim or given.shape[1:] != own.shape[1:]:
        return False
    return len(given) != len(own) and len(given) > 0 and len(given) * outputs % len(own) == 0


def _has_no_place(module: nn.Module, name: str) -> bool:
    """Return whether a tensor belongs to a part that the module does not have at all.

    A tensor of a layer that the module has, or of a further layer in a chain of layers, is none of
    these: without it, the model would compute something else than the source did.
    """
    *path, _ = name.split(".")
    for part in path:
        if part not in dict(module.named_children()):
            return not isinstance(module, CHAINS)
        module = module.get_submodule(part)
    return False


def _summary(names: Sequence[str]) -> str:
    parts = sorted({".".join(name.split(".")[:2]) for name in names})
    more = ", ..." if len(parts) > SHOWN else ""
    return f"{', '.join(parts[:SHOWN])}{more} ({len(names)} tensors)"
