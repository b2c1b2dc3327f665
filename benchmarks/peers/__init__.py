"""The programs that cnnjax is compared with, one file each. See `contenders`."""
