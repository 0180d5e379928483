"""The fault matrix: every row that is injected, and why the others are not."""

from tests.chaos import rows_clients, rows_groups, rows_nodes, rows_peers, rows_redis
from tests.chaos.run import Row


def _place(row: Row) -> tuple[int, str]:
    digits = row.name.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(digits), row.name


ROWS = {
    row.name: row
    for row in sorted(
        (
            *rows_clients.ROWS,
            *rows_nodes.ROWS,
            *rows_redis.ROWS,
            *rows_groups.ROWS,
            *rows_peers.ROWS,
        ),
        key=_place,
    )
}

NOT_INJECTED = {
    "32": (
        "Clock of a node +1 h, -1 h",
        "needs libfaketime, which has to be installed by root; leases, lifetimes and "
        "deadlines are counted on the monotonic clock, which no setting of the time moves",
    ),
    "33": (
        "Clock jump of Redis",
        "needs libfaketime as well; what an expired key causes is injected by row 30",
    ),
}
