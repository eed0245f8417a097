"""The operating system: files that are written, folders left behind, Ctrl-C, forks, late imports.

In: paths, names of modules, blocks of code. Out: errors that name the path; nothing half done.
"""
