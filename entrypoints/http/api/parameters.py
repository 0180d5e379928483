"""What stands in the path, the query and the headers of requests. Names are checked by the use
cases: told here is what they will take."""

from typing import Annotated

from fastapi import Header, Path, Query

from entrypoints.http.api.asks import MAX_INTEGER, MAX_KEY, MAX_REASON, PRINTABLE
from entrypoints.wire.shapes import ROOM, USER

RoomName = Annotated[str, Path(json_schema_extra={"pattern": ROOM}, examples=["chat:tea"])]
UserName = Annotated[str, Path(json_schema_extra={"pattern": USER}, examples=["ann"])]
Seq = Annotated[int | None, Query(ge=0, le=MAX_INTEGER, description="exclusive")]
Limit = Annotated[int, Query(ge=1, le=MAX_INTEGER, description="more is taken as 100")]
Reason = Annotated[str, Query(max_length=MAX_REASON, description="told to the user")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="the same as `key` in the body",
        json_schema_extra={"pattern": PRINTABLE, "minLength": 1, "maxLength": MAX_KEY},
    ),
]
