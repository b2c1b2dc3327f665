"""Proxies, through which JAX's processes would look for each other."""

from __future__ import annotations

import os
from collections.abc import Mapping

import jax

LOCAL = "127.0.0.1,localhost,::1"
# Of gRPC alone, which asks for it before no_proxy: nothing else changes.
BYPASS = "no_grpc_proxy"


def without(environment: Mapping[str, str], *hosts: str) -> dict[str, str]:
    """Return the environment in which gRPC finds these hosts without a proxy.

    This machine is always among them.
    """
    names = environment.get(BYPASS), environment.get("no_proxy"), LOCAL, *hosts
    return {**environment, BYPASS: ",".join(filter(None, names))}


def is_local(host: str) -> bool:
    """Return whether it is a name by which this machine calls itself."""
    return host in LOCAL.split(",")


def pass_by(address: str) -> None:
    """Let no proxy be asked for an address."""
    os.environ.update(without(os.environ, address.rpartition(":")[0].strip("[]")))
    jax.config.update("jax_check_proxy_envs", False)  # a warning, needless now


def hint() -> str:
    """Say that a proxy may be in the way, if there is one."""
    named = [name for name in os.environ if name.lower().endswith("_proxy")]
    proxies = [name for name in named if not name.lower().startswith("no_")]
    return f", and unset {', '.join(proxies)}" if proxies else ""
