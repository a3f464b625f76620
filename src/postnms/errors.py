"""The one exception for mistakes that a user can mend: the command line prints it as a single line."""


class UserError(ValueError):
    """A file, recipe or argument is not as it must be; says which, what was expected and what came."""
