"""What the text of a user's statement alone shows."""

from __future__ import annotations

import pytest

from qmigrate.model.statement import problem_of_change

#: Statements that change every row, although there is a WHERE somewhere in most of them.
BOUNDLESS = [
    "UPDATE t SET x = 1",
    "DELETE FROM t",
    "UPDATE t SET x = (SELECT y FROM z WHERE z.id = 1)",
    "UPDATE t SET x = (SELECT y FROM z WHERE z.id IN (SELECT id FROM u WHERE a = :value))",
    "UPDATE t SET (x, y) = (SELECT a, b FROM z WHERE z.id = :value)",
    "UPDATE t SET x = 1 FROM (SELECT id FROM z WHERE z.id = :value) AS s",
    "UPDATE t SET x = count(*) FILTER (WHERE y = 1)",
    "UPDATE t SET x = 1 -- WHERE id = 1",
    "UPDATE t SET x = ' WHERE id = 1'",
    'UPDATE t SET "where" = 1',
    "WITH s AS (SELECT id FROM z WHERE z.id = :value) UPDATE t SET x = 1",
    "WITH s AS (SELECT id FROM z WHERE z.id = :value) DELETE FROM t USING s",
    "WITH gone AS (DELETE FROM t RETURNING id) INSERT INTO q SELECT id FROM gone WHERE id = :value",
    "WITH seen AS (UPDATE t SET x = 1 RETURNING id) UPDATE u SET y = 1 WHERE id IN (SELECT id FROM seen)",
    "UPDATE t LEFT JOIN (SELECT id FROM s WHERE k = :value) AS u ON t.id = u.id SET t.x = NULL",
    "UPDATE t JOIN s ON t.id = s.id SET t.x = NULL",
]
#: Statements that say which rows they change.
BOUNDED = [
    "UPDATE t SET x = 1 WHERE id = :value",
    "UPDATE t SET x = (SELECT y FROM z) WHERE id IN (SELECT id FROM s WHERE k = :value)",
    "UPDATE t SET x = 1 FROM (SELECT id FROM z) AS s WHERE s.id = t.id",
    "DELETE FROM t WHERE (id = :value)",
    "WITH s AS (SELECT id FROM z) UPDATE t SET x = 1 WHERE id IN (SELECT id FROM s)",
    "WITH gone AS (DELETE FROM t WHERE id = :value RETURNING id) INSERT INTO q SELECT id FROM gone",
    "UPDATE t JOIN (SELECT id FROM s WHERE k = :value) AS u ON t.id = u.id SET t.x = NULL",
    "INSERT INTO q (id, x) VALUES (:value, 1) ON CONFLICT (id) DO UPDATE SET x = 2",
    "WITH s AS (SELECT id FROM z) INSERT INTO q SELECT id FROM s ON CONFLICT (id) DO UPDATE SET x = 2",
    "INSERT INTO q SELECT id FROM (SELECT id FROM z FOR UPDATE) AS s",
    "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN UPDATE SET b = 1",
]


@pytest.mark.parametrize("sql", BOUNDLESS)
def test_a_where_of_a_sub_query_bounds_no_change(sql):
    """Each UPDATE and DELETE needs a WHERE of its own, wherever in the statement it stands."""
    assert problem_of_change(sql) == "the statement has no WHERE of its own, so it would change every row"


@pytest.mark.parametrize("sql", BOUNDED)
def test_a_change_that_says_which_rows_is_taken(sql):
    """However they are written: by a condition, by what it inserts, by a join with chosen rows."""
    assert problem_of_change(sql) is None
