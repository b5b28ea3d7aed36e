"""The user's functions, in a form that can be sent to other processes: by name if the user gave a name, otherwise pickled."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nncomplexity.errors import InputError
from nncomplexity.network import Divergence, Function, NamedDivergence, find_function, folder_of
from nncomplexity.words import in_folder
from nncomplexity.workers import CannotPackError, sent


@dataclass(frozen=True)
class UserFunction:
    """A function with its name in rows.

    Attributes:
        option: the option or argument by which the user gave it, for messages.
        name: MODULE:FUNCTION.
        function: the function itself; None if each process finds it by its name.
    """

    option: str
    name: str
    function: Function | None = None

    def get(self) -> Function:
        """The function. Raises InputError if there is no function of this name."""
        return find_function(self.name, self.option) if self.function is None else self.function

    @contextmanager
    def in_place(self) -> Iterator[Function]:
        """The function. Within the block, the current folder is the one to which the function's module changed, if it did."""
        function = self.get()
        with in_folder(None if self.function else folder_of(self.name)):
            yield function


@dataclass(frozen=True)
class UserDivergence(UserFunction):
    """A divergence instead of a loss: the object itself, or the names on the command line, from which each process makes it.

    Attributes:
        named: the names on the command line; None if there is `function`.
    """

    named: NamedDivergence | None = None

    def get(self) -> Function:
        """The divergence itself, or one made from the names on the command line."""
        return self.named.make() if self.function is None and self.named else super().get()

    def described(self) -> dict[str, Any]:
        """The keys of the divergence in the settings of a row."""
        if self.named is not None:
            return self.named.described()
        return self.function.described() if isinstance(self.function, Divergence) else {}


def user_divergence(given: "Divergence | NamedDivergence | UserDivergence") -> UserDivergence:
    """A divergence that can be sent to other processes. Raises InputError if the argument is no divergence, or a name can't be used."""
    if isinstance(given, UserDivergence):
        return given
    if isinstance(given, NamedDivergence):
        given.make()
        return UserDivergence("--outputs", given.outputs, None, given)
    if not isinstance(given, Divergence):
        raise InputError(f"faithfulness: expected a Divergence, got {type(given).__name__}")
    return UserDivergence("outputs", given.described()["outputs"], given)


def user_function(option: str, given: "str | Callable[..., Any] | NamedDivergence | UserFunction") -> UserFunction:
    """The function of an option or argument. It is looked up now, so that a wrong name is reported before the measurement begins.

    Raises:
        InputError: the argument is neither a function nor the name of one.

    >>> import math
    >>> user_function("loss_fn", math.sqrt).name, user_function("--loss-fn", "math:sqrt").get() is math.sqrt
    ('math:sqrt', True)
    """
    if isinstance(given, UserFunction):
        return given
    if isinstance(given, Divergence | NamedDivergence):
        return user_divergence(given)
    if isinstance(given, str):
        find_function(given, option)
        return UserFunction(option, given)
    if not callable(given):
        raise InputError(f"{option}: expected a function or MODULE:FUNCTION, got {type(given).__name__}")
    name = getattr(given, "__qualname__", type(given).__qualname__)
    module = getattr(given, "__module__", None) or type(given).__module__
    return UserFunction(option, f"{module}:{name}", given)


def check_sendable(functions: Iterable[UserFunction], executor: Executor | None) -> None:
    """Raises InputError if a function can't be sent to the executor's workers. An executor of None stands for new processes."""
    for one in functions:
        try:
            sent(one.function, executor)
        except CannotPackError as error:
            raise InputError(
                f"{one.option}: expected a function that can be pickled, because other processes call it, got {one.name} ({error}); or use "
                "one process"
            ) from None
