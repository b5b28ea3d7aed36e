"""The user's functions, as they are sent to other processes: by name if the command line got a name, otherwise packed."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from typing import Any

from nncomplexity.errors import InputError
from nncomplexity.network import Divergence, Function, NamedDivergence, find_function, folder_of
from nncomplexity.workers import CannotPackError, sent


@dataclass(frozen=True)
class UserFunction:
    """A function with its name in rows.

    Attributes:
        option: the option or argument that gave it, for messages.
        name: MODULE:FUNCTION.
        function: the function itself; None if each process finds it by its name.
    """

    option: str
    name: str
    function: Function | None = None

    def get(self) -> Function:
        """The function; raises InputError where the name leads to none."""
        return find_function(self.name, self.option) if self.function is None else self.function

    @contextmanager
    def in_place(self) -> Iterator[Function]:
        """The function, to be called with the folder of its module as the current folder, if the module changed it."""
        function = self.get()
        with chdir((None if self.function else folder_of(self.name)) or "."):
            yield function


@dataclass(frozen=True)
class UserDivergence(UserFunction):
    """A divergence instead of a loss: the object itself, or its names on the command line, from which each process makes it.

    Attributes:
        named: the names on the command line; None if there is `function`.
    """

    named: NamedDivergence | None = None

    def get(self) -> Function:
        """The divergence, made from what the command line said where it is named there."""
        return self.named.make() if self.function is None and self.named else super().get()

    def described(self) -> dict[str, Any]:
        """Its keys in the settings of a row."""
        if self.named is not None:
            return self.named.described()
        return self.function.described() if isinstance(self.function, Divergence) else {}


def user_divergence(given: "Divergence | NamedDivergence | UserDivergence") -> UserDivergence:
    """A divergence on its way to other processes. Raises InputError where it is none, or names lead to none."""
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
        InputError: it is no function, or names none.

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
    """Raises InputError for the first function that can't be sent to the workers of the executor; None is new processes."""
    for one in functions:
        try:
            sent(one.function, executor)
        except CannotPackError as error:
            raise InputError(
                f"{one.option}: expected a function that can be pickled, because other processes call it, got {one.name} ({error}); or use "
                "one process"
            ) from None
