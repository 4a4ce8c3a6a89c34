"""The exception that ends a command."""


class CommandError(Exception):
    """A user's error or a failed check: one line on stderr and an exit code, no traceback.

    Parameters
    ----------
    message : str
        What was found, what was wanted and what to do.
    code : int, optional
        The exit code of the process: 1 for bad input or a failed check, 2 for bad usage.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def one_line(error: BaseException) -> str:
    """Return an exception as one line of text.

    Parameters
    ----------
    error : BaseException
        The exception to describe.

    Returns
    -------
    str
        Its message with all white space collapsed, or its type's name if it has none.
    """
    return " ".join(str(error).split()) or type(error).__name__
