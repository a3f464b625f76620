"""NMS read as clustering, and a trainable stage that re-scores and re-locates the boxes it keeps.

The public names are listed in ``__init__.pyi``. Each is imported when it is first used, so that
``import postnms`` does not load torch.
"""

from importlib.metadata import version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("postnms")
