"""Second import paths, such as ``aimz_lab.utils.data``; the code is in ``aimz_lab.data``."""
