"""Hyper-V Balancer: plans live migrations, proves them safe and carries them out."""

__version__ = "0.1.0"
