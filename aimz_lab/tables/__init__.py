"""Tables: a data frame comes in, labelled arguments of the kernel go out.

What was learned from the training table encodes later ones, and takes outputs back to its scale.
Importing the room loads nothing; its modules load formulaic.
"""
