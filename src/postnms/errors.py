"""The one exception for mistakes that a user can mend. The command line prints it as one line."""


class UserError(ValueError):
    """A file, a recipe or an argument is not as it must be.

    The message says which one, what was expected and what came. ``argument`` is the name of the
    argument at fault, where it is one: the message then begins with it, and the command line puts
    the name of its own option in its place.
    """

    def __init__(self, message: str, *, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument

    def __str__(self) -> str:
        message = super().__str__()
        return message if self.argument is None else f"{self.argument}: {message}"
