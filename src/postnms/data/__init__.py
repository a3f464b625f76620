"""Data sets in, batches out.

The public names are listed in ``__init__.pyi``. Each is imported when it is first used, so that an
evaluation, which needs the truth alone, does not load what images need.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
