"""How fast the library is on this machine, beside others that do the same: ``postnms benchmark``."""
