"""The two ways in which a call can be wrong. Both end the command line with exit code 2 and one line."""


class InputError(ValueError):
    """An argument, a checkpoint or a loss is not usable. The message names it, what was expected and what came."""


class FormatError(InputError):
    """A file is damaged, cut, or written by a newer version."""
