"""The tour and the command line ``aimz-lab``."""
