"""One file each: what cnnjax is compared with. See `contenders`."""
