"""Speed of this library beside others on this machine, as ``postnms benchmark`` measures it."""
