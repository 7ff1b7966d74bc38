"""A real WinRM/PSRP endpoint on loopback for each simulated host.

The unmodified production client talks to it: TCP, TLS or sealed messages, Basic or Negotiate,
WS-Management, PowerShell remoting. Only what runs a command is simulated: a handler that the
caller supplies turns a function and its parameters into one JSON string.
"""

from balancer.gateway.simulator.winrm.certificates import Authority, ServerIdentity
from balancer.gateway.simulator.winrm.commands import (
    CommandFailed,
    EndpointKind,
    Handler,
    UnknownCommandError,
    sha256_accepts,
)
from balancer.gateway.simulator.winrm.faults import Fault, FaultKind
from balancer.gateway.simulator.winrm.server import (
    JEA_CONFIGURATION,
    ORDINARY_CONFIGURATION,
    WinRmServer,
)

__all__ = [
    "JEA_CONFIGURATION",
    "ORDINARY_CONFIGURATION",
    "Authority",
    "CommandFailed",
    "EndpointKind",
    "Fault",
    "FaultKind",
    "Handler",
    "ServerIdentity",
    "UnknownCommandError",
    "WinRmServer",
    "sha256_accepts",
]
