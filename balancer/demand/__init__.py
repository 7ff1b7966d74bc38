"""From history to the demand that a plan goes by: values in, values out."""

from __future__ import annotations

from balancer.demand.outlook import Outlook, outlook
from balancer.demand.readings import Readings

__all__ = ["Outlook", "Readings", "outlook"]
