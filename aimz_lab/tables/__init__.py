"""Tables: a data frame comes in, labelled arguments of the kernel go out.

What was learned from the training table encodes later ones, and takes outputs back to its scale.
"""

from aimz_lab.tables.encoder import Encoded, TableEncoder
from aimz_lab.tables.outcome_scale import OutcomeScale
from aimz_lab.tables.table_spec import TableSpec

__all__ = ["Encoded", "OutcomeScale", "TableEncoder", "TableSpec"]
