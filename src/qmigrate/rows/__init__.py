"""The application's SQL: its rows, read-only and streamed. Nothing here knows of Qdrant's points, but for their ids."""

from qmigrate.rows.reader import Moment, Query, Row, Rows

__all__ = ["Moment", "Query", "Row", "Rows"]
