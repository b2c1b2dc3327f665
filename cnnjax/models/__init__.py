"""ONE example: layers, networks stacked from them, and losses."""

from cnnjax.models.network import init, make_apply, zero_taps
from cnnjax.models.network_loss import NetworkLoss

__all__ = ["NetworkLoss", "init", "make_apply", "zero_taps"]
