"""Our functions as a runspace sees them: parameters bound, one JSON string out.

Binding is as PowerShell does it: names without regard to case, values converted where the type
allows it, and the error records of 5.1 where not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from balancer.gateway.simulator.host import INVALID_DATA, Functions
from balancer.gateway.simulator.winrm import CommandFailed, UnknownCommandError
from balancer.gateway.simulator.winrm.commands import INVALID_ARGUMENT, RUNTIME_HRESULT
from balancer.gateway.wire import Wire


@dataclass(frozen=True, slots=True)
class _Function:
    """A function: what each parameter, all mandatory, is converted with, and what runs."""

    parameters: Mapping[str, Callable[[object], object]]
    run: Callable[..., Wire]


class HostHandler:
    """Runs the functions of one host; what `WinRmServer` calls."""

    def __init__(self, functions: Functions) -> None:
        self._table = {name.casefold(): (name, one) for name, one in _table(functions).items()}

    def __call__(self, function: str, parameters: Mapping[str, object]) -> str:
        """Run a function and return its answer.

        Raises:
            UnknownCommandError: There is no such function.
            CommandFailed: The parameters do not bind.
        """
        found = self._table.get(function.casefold())
        if found is None:
            raise UnknownCommandError(function)
        name, one = found
        return one.run(**_bind(name, one.parameters, parameters)).model_dump_json()


def _table(functions: Functions) -> dict[str, _Function]:
    return {
        "Get-LbVersion": _Function({}, functions.version),
        "Get-LbHost": _Function({}, functions.read_host),
        "Get-LbCluster": _Function({}, functions.read_cluster),
        "Get-LbMigration": _Function(
            {"VmId": _texts},
            lambda VmId: functions.read_moves(VmId),  # noqa: N803, PLW0108
        ),
        "Start-LbMigration": _Function(
            {"VmId": _text, "Target": _text, "Clustered": _boolean, "Fence": _long},
            lambda VmId, Target, Clustered, Fence: functions.start(  # noqa: N803
                VmId, Target, clustered=Clustered, fence=Fence
            ),
        ),
        "Stop-LbMigration": _Function(
            {"VmId": _text, "Fence": _long},
            lambda VmId, Fence: functions.stop(VmId, Fence),  # noqa: N803, PLW0108
        ),
        "Set-LbTransport": _Function(
            {"Expected": _option, "Value": _option, "Fence": _long},
            lambda Expected, Value, Fence: functions.set_transport(  # noqa: N803, PLW0108
                Expected, Value, Fence
            ),
        ),
        **_cluster_table(functions),
    }


def _cluster_table(functions: Functions) -> dict[str, _Function]:
    return {
        "Get-LbControl": _Function({}, functions.read_control),
        "Set-LbControl": _Function(
            {"Name": _control, "Expected": _any_text, "Value": _any_text, "Fence": _long},
            lambda Name, Expected, Value, Fence: functions.set_control(  # noqa: N803, PLW0108
                Name, Expected, Value, Fence
            ),
        ),
        "Set-LbNode": _Function(
            {"Name": _text, "State": _node_state, "Fence": _long},
            lambda Name, State, Fence: functions.set_node(Name, State, Fence),  # noqa: N803, PLW0108
        ),
        "Move-LbGroup": _Function(
            {"GroupId": _text, "Target": _text, "Fence": _long},
            lambda GroupId, Target, Fence: functions.move_group(  # noqa: N803, PLW0108
                GroupId, Target, Fence
            ),
        ),
        "Move-LbVolume": _Function(
            {"Name": _text, "Target": _text, "Fence": _long},
            lambda Name, Target, Fence: functions.move_volume(  # noqa: N803, PLW0108
                Name, Target, Fence
            ),
        ),
        "Set-LbAutoBalancer": _Function(
            {"Expected": _option, "Value": _option, "Fence": _long},
            lambda Expected, Value, Fence: functions.set_auto_balancer(  # noqa: N803, PLW0108
                Expected, Value, Fence
            ),
        ),
    }


def _bind(
    function: str,
    wanted: Mapping[str, Callable[[object], object]],
    given: Mapping[str, object],
) -> dict[str, Any]:
    """Return the values by the parameters' own names."""
    names = {name.casefold(): name for name in wanted}
    bound: dict[str, Any] = {}
    for given_name, value in given.items():
        name = names.get(given_name.casefold())
        if name is None:
            raise _binding(
                "NamedParameterNotFound",
                function,
                f"A parameter cannot be found that matches parameter name '{given_name}'.",
            )
        try:
            bound[name] = wanted[name](value)
        except (TypeError, ValueError) as error:
            raise _binding(
                "ParameterArgumentTransformationError",
                function,
                f"Cannot process argument transformation on parameter '{name}'. {error}",
                INVALID_DATA,
            ) from error
    missing = [name for name in wanted if name not in bound]
    if missing:
        raise _binding(
            "MissingMandatoryParameter",
            function,
            "Cannot process command because of one or more missing mandatory parameters: "
            f"{' '.join(missing)}.",
        )
    return bound


def _binding(
    fqid: str, function: str, message: str, category: int = INVALID_ARGUMENT
) -> CommandFailed:
    return CommandFailed(
        f"{fqid},{function}",
        category,
        RUNTIME_HRESULT,
        message,
        exception="ParameterBindingException",
        target=function,
    )


def _text(value: object) -> str:
    """Convert to String, as numbers are; collections and nothing at all are not."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"Cannot convert {type(value).__name__} to System.String.")


def _any_text(value: object) -> str:
    """Convert to String where an empty one is allowed."""
    return value if isinstance(value, str) else _text(value)


def _control(value: object) -> str:
    return _one_of(_text(value), ("lease", "freeze"))


def _node_state(value: object) -> str:
    return _one_of(_text(value), ("pause", "resume"))


def _one_of(word: str, words: tuple[str, ...]) -> str:
    """Validate a set of words as PowerShell does, without regard to case."""
    if word.casefold() in words:
        return word.casefold()
    raise ValueError(f"{word} does not belong to the set {', '.join(words)}.")


def _texts(value: object) -> list[str]:
    """Convert to String[]: a single value becomes an array of one."""
    if isinstance(value, list | tuple):
        return [_text(one) for one in value]
    return [_text(value)]


def _boolean(value: object) -> bool:
    """Convert to Boolean: numbers do, strings do not."""
    if isinstance(value, bool | int):
        return bool(value)
    raise TypeError(f"Cannot convert {type(value).__name__} to System.Boolean.")


def _long(value: object) -> int:
    """Convert to Int64, also from digits."""
    if isinstance(value, bool | int | str):
        number = int(value)
        if -(2**63) <= number < 2**63:
            return number
    raise ValueError("Value was either too large or too small for an Int64, or no number.")


def _option(value: object) -> int:
    """Convert to a performance option: 0 to 2."""
    number = _long(value)
    if not 0 <= number <= 2:  # noqa: PLR2004 -- the range is the meaning
        raise ValueError(f"{number} is outside of 0 to 2.")
    return number
