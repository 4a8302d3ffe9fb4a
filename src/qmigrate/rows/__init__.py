"""The application's SQL: rows, read-only and streamed, a queue of ids, and marks. It uses only the ids of points."""

from qmigrate.rows.keys import Unusual
from qmigrate.rows.marks import Marking, Marks
from qmigrate.rows.moment import Moment
from qmigrate.rows.queue import Queue
from qmigrate.rows.reader import Query, Row, Rows

__all__ = ["Marking", "Marks", "Moment", "Query", "Queue", "Row", "Rows", "Unusual"]
