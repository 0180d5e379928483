"""`/v1/events`: rooms as an event stream. Who gets in, and what they are sent."""

import asyncio
import time

import pytest

from domain.identifiers import RoomId, UserId
from domain.orders import Block, Kick, RevokeTokens, SendAway
from entrypoints.wire.event_ids import read_id
from tests.event_source import EventSource
from tests.peer import until
from tests.running_server import RunningServer, Serve
from tests.tokens import BAD_TOKENS, JWT, token

ALL = ["join", "publish", "history", "members"]


async def say(server: RunningServer, room: str, *data: object) -> list[int]:
    """Publish in a room, from outside."""
    talker = await server.user("talker")
    acks = [await talker.ask("publish", room=room, data=text, echo=False) for text in data]
    await talker.close()
    return [ack["seq"] for ack in acks]


# What readers get


async def test_a_reader_gets_what_is_said(serve: Serve) -> None:
    server = await serve()
    source = await server.events("room=tea&user=ann")
    assert source.status == 200
    assert source.response.headers["content-type"] == "text/event-stream"
    assert "no-store" in source.response.headers["cache-control"]
    await source.expect("connected", user_id="ann", ping_interval=25.0, limits={"rooms": 16})
    joined = await source.expect("joined", room="tea", recovery={"outcome": "none"})
    assert joined.frame["position"]["seq"] == 0
    assert joined.frame["members"] is None

    bob, _ = await server.member("bob", "tea")
    for number in range(1, 4):
        ack = await bob.ask("publish", room="tea", data={"n": number}, echo=False)
        event = await source.expect("message", room="tea", seq=ack["seq"], data={"n": number})
        assert (event.frame["from"], event.frame["id"]) == ("bob", ack["message_id"])
    await bob.ask("publish", room="tea", data="typing", ephemeral=True)
    typing = await source.expect("message", ephemeral=True, data="typing")
    assert typing.id == event.id


async def test_it_is_the_frame_that_members_get(serve: Serve) -> None:
    server = await serve()
    source = await server.events("room=tea")
    await source.joined("tea")
    member, _ = await server.member("bob", "tea")
    await say(server, "tea", "first, which names the log", {"text": "second"})
    for _ in range(2):
        event = await source.next()
        assert event is not None
        assert event.frame == await member.receive()


async def test_many_rooms_on_one_stream(serve: Serve) -> None:
    server = await serve()
    source = await server.events("room=a&room=b&room=a&room=@ann&user=ann")
    await source.joined("a", "b", "@ann")
    for room in ("b", "a", "@ann", "b"):
        (seq,) = await say(server, room, room)
        event = await source.expect("message", room=room, seq=seq, data=room)
    places = [int(mark.split(b".")[0]) for mark in read_id(event.id, 3).marks]
    assert places == [1, 2, 1]


async def test_every_event_has_the_id_to_go_on_from(serve: Serve) -> None:
    """Several messages of several rooms in one turn, as far as that can be had."""
    server = await serve()
    source = await server.events("room=a&room=b")
    begun = await source.joined("a", "b")
    talker = await server.user("talker")
    frames = [
        {"type": "publish", "room": "ab"[number % 3 == 0], "data": number} for number in range(60)
    ]
    await talker.send(*frames)
    seen = {"a": 0, "b": 0}
    assert [mark.split(b".")[0] for mark in read_id(begun[-1].id, 2).marks] == [b"0", b"0"]
    for _ in frames:
        event = await source.next()
        assert event is not None
        seen[event.frame["room"]] += 1
        assert event.frame["seq"] == seen[event.frame["room"]]
        places = [int(mark.split(b".")[0]) for mark in read_id(event.id, 2).marks]
        assert places == [seen["a"], seen["b"]]
    for _ in frames:
        await talker.expect("ack")


async def test_history_comes_as_events(serve: Serve) -> None:
    server = await serve()
    await say(server, "tea", *range(5))
    source = await server.events("room=tea&history=3")
    (joined,) = await source.joined("tea")
    assert (joined.frame["position"]["seq"], joined.frame["more"]) == (2, True)
    assert [(await source.expect("message", seq=seq)).frame["data"] for seq in (3, 4, 5)] == [
        2,
        3,
        4,
    ]


async def test_a_long_history_comes_page_by_page(serve: Serve) -> None:
    server = await serve(
        rooms=[{"match": "*", "history_size": 500}], limits={"messages_burst": 999}
    )
    await say(server, "tea", *range(350))
    for query in ("room=tea", "room=tea&room=milk"):
        source = await server.events(f"{query}&history=400")
        await source.expect("connected")
        await source.expect("joined", room="tea")
        seqs: list[int] = []
        while len(seqs) < 350:
            event = await source.next()
            assert event is not None
            if event.name == "message":
                seqs.append(event.frame["seq"])
        assert seqs == list(range(1, 351))


async def test_line_ends_in_data_break_nothing(serve: Serve) -> None:
    server = await serve()
    source = await server.events("room=tea")
    await source.joined("tea")
    texts = [
        "a\rid: 7\r\r",
        "b\n\nevent: disconnect\ndata: {}\n\n",
        "c\r\n\r\n",
        "\u2028\u2029\x85\x00",
    ]
    await say(server, "tea", *texts)
    assert [(await source.expect("message")).frame["data"] for _ in texts] == texts


async def test_a_reader_who_cannot_keep_up_with_a_conflating_room(serve: Serve) -> None:
    server = await serve(
        rooms=[{"match": "r", "conflate": True, "history_size": 1}],
        limits={"messages_per_second": 0},
    )
    server.narrow()
    slow = await server.events("room=r")
    await slow.joined("r")
    talker = await server.user("talker")
    for _ in range(300):
        await talker.ask("publish", room="r", data="x" * 20_000, echo=False)
    assert server.sessions() == 2
    seq = left_out = 0
    while seq < 300:
        event = await slow.expect("message")
        skipped = event.frame.get("skipped", 0)
        assert event.frame["seq"] == seq + skipped + 1
        seq, left_out = event.frame["seq"], left_out + skipped
        assert event.id.startswith(f"{seq}.")
    assert left_out > 0


# Presence


async def test_a_reader_is_no_member_and_is_shown_none(serve: Serve) -> None:
    server = await serve()
    source = await server.events("room=tea&user=ann")
    await source.joined("tea")
    bob, joined = await server.member("bob", "tea")
    assert joined["count"] == 1
    assert [member["user"] for member in joined["members"]] == ["bob"]
    await bob.ask("leave", room="tea")
    await say(server, "tea", "next")
    await source.expect("message", data="next")


async def test_with_presence_it_is(serve: Serve) -> None:
    server = await serve(presence_grace=0.2)
    bob, _ = await server.member("bob", "tea")
    source = await server.events("room=tea&room=milk&user=ann&presence=1")
    tea, milk = await source.joined("tea", "milk")
    assert [member["user"] for member in tea.frame["members"]] == ["ann", "bob"]
    assert (milk.frame["count"], milk.frame["version"]) == (1, 1)
    await bob.expect("join", user="ann", count=2)
    await bob.ask("leave", room="tea")
    await source.expect("leave", user="bob", count=1)
    bob, _ = await server.member("cleo", "tea")
    await source.expect("join", user="cleo", count=2)
    await source.close()
    await bob.expect("leave", user="ann", count=1)


async def test_a_full_room_takes_readers_and_no_member(serve: Serve) -> None:
    server = await serve(rooms=[{"match": "r", "max_members": 1}])
    await server.member("bob", "r")
    reader = await server.events("room=r&user=ann")
    await reader.joined("r")
    refused = await server.events("room=r&user=ann&presence=1")
    await refused.expect("connected")
    event = await refused.expect("disconnect", code=4004)
    assert event.id == "!"
    assert await refused.rest() == []


# Who gets in


async def test_a_token_by_header_or_address(serve: Serve) -> None:
    server = await serve(**JWT)
    for query, headers in (
        (f"room=r&token={token('ann')}", {}),
        ("room=r", {"Authorization": f"Bearer {token('ann')}"}),
    ):
        source = await server.events(query, **headers)
        connected = await source.expect("connected", user_id="ann")
        assert 0 < connected.frame["expires_in"] <= 600
        await source.expect("joined", room="r")
    assert "eyJ" not in server.log.text


async def stays_away(server: RunningServer, query: str, source: EventSource) -> None:
    """What a browser does next is answered so that it gives up."""
    assert source.last_id.startswith("!")
    again = await server.events(query, source.last_id)
    assert again.status == 204
    assert await again.rest() == []


async def test_without_a_token_one_is_refused_and_stays_away(serve: Serve) -> None:
    server = await serve(**JWT)
    source = await server.events("room=r")
    event = await source.refused()
    assert event.frame["code"] == 4001
    assert event.frame["reason"].startswith("token_missing")
    await stays_away(server, "room=r", source)
    assert server.metric("sessions_opened_total") == 0


@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_a_bad_token_is_refused(serve: Serve, kind: str) -> None:
    make, code = BAD_TOKENS[kind]
    server = await serve(**JWT)
    query = f"room=r&token={make('ann')}"
    source = await server.events(query)
    event = await source.refused()
    assert (event.frame["code"], event.frame["reason"].partition(":")[0]) == (4001, code)
    await stays_away(server, query, source)


async def test_one_refused_room_refuses_the_request(serve: Serve) -> None:
    server = await serve(**JWT)
    grants = {"open": ALL, "blind": ["join"]}
    for rooms in ("room=open&room=closed", "room=open&room=@bob", "room=open&room=blind&history=1"):
        query = f"{rooms}&token={token('ann', rooms=grants)}"
        source = await server.events(query)
        event = await source.refused()
        assert event.frame["code"] == 4003
        assert event.frame["reason"].startswith("not_granted")
        await stays_away(server, query, source)
    assert server.metric("rooms") == 0
    own = await server.events(f"room=open&room=@ann&token={token('ann', rooms=grants)}")
    await own.joined("open", "@ann")


async def test_who_was_refused_keeps_its_place_for_a_new_token(serve: Serve) -> None:
    server = await serve(**JWT)
    good = f"room=a&room=b&token={token('ann')}"
    source = await server.events(good)
    await source.joined("a", "b")
    await source.close()
    refused = await server.events("room=a&room=b&token=stale", source.last_id)
    assert (await refused.refused()).frame["code"] == 4001
    assert refused.last_id == f"!{source.last_id}"
    talker = await server.connect(f"/v1/ws?token={token('talker')}")
    await talker.ask("publish", room="b", data="missed", echo=False)

    back = await server.events(f"{good}&last_event_id={refused.last_id}")
    await back.expect("connected")
    await back.expect("joined", room="a", recovery={"outcome": "ok"})
    await back.expect("joined", room="b", recovery={"outcome": "ok"})
    await back.expect("message", room="b", data="missed")


async def test_the_end_of_a_token_is_the_end_of_the_stream(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("application.session.EXPIRY_LEEWAY", -99.9)
    server = await serve(**JWT)
    source = await server.events(f"room=r&token={token('ann', 100)}")
    (joined,) = await source.joined("r")
    await source.expect("disconnect", code=4101)
    assert await source.rest() == []
    assert source.last_id == joined.id  # to go on from, with another token


async def test_names_in_open_mode(serve: Serve) -> None:
    server = await serve()
    named = await server.events("room=r&user=ann")
    await named.expect("connected", user_id="ann")
    guest = await server.events("room=r")
    connected = await guest.expect("connected")
    assert connected.frame["user_id"].startswith("guest-")


async def test_a_user_with_too_many_connections_waits(serve: Serve) -> None:
    server = await serve(limits={"connections_per_user": 2})
    for _ in range(2):
        await (await server.events("room=r&user=ann")).joined("r")
    source = await server.events("room=r&user=ann", "5.AAAAAAAA")
    event = await source.refused()
    assert event.frame["code"] == 4100
    assert event.frame["reason"].startswith("over_capacity")
    assert event.id == ""  # so that a browser keeps the one it has
    assert source.parser.retry is not None
    assert 5000 <= source.parser.retry <= 15_000
    assert server.sessions() == 2


async def test_over_capacity_one_is_told_when_to_come_back(serve: Serve) -> None:
    server = await serve(limits={"connections": 1})
    first = await server.events("room=r")
    await first.joined("r")
    waits = set()
    for _ in range(5):
        source = await server.events("room=r")
        event = await source.refused()
        assert event.frame["code"] == 4100
        waits.add(source.parser.retry)
    assert len(waits) > 1
    await first.close()
    await server.lost(0)
    await until(lambda: not server.container.admission().known)
    await (await server.events("room=r")).joined("r")


async def test_streams_and_websockets_share_the_limits(serve: Serve) -> None:
    server = await serve(limits={"connections": 2})
    await server.user("ann")
    await (await server.events("room=r")).joined("r")
    assert (await (await server.events("room=r")).refused()).frame["code"] == 4100
    with pytest.raises(Exception, match="503"):
        await server.connect("/v1/ws?user=bob")


# What is no request for a stream


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "bad_frame"),
        ("rooms=r", "bad_frame"),
        ("room=", "bad_name"),
        ("room=a,b", "bad_name"),
        ("room=%0d%0aid:1", "bad_name"),
        ("room=r&user=%00", "bad_name"),
        ("room=r&presence=yes", "bad_frame"),
        ("room=r&history=-1", "bad_frame"),
        ("room=r&history=9999999999", "bad_frame"),
        ("&".join(f"room=r{number}" for number in range(17)), "too_many_rooms"),
        ("&".join(f"room=r{number}" for number in range(70)), "bad_frame"),
    ],
)
async def test_a_request_that_makes_no_sense_is_an_error(
    serve: Serve, query: str, code: str
) -> None:
    server = await serve()
    response = await server.get(f"/v1/events?{query}")
    assert response.status_code == 400
    assert response.json()["error"]["code"] == code
    assert server.metric("sessions_opened_total") == 0


async def test_sixteen_rooms_are_not_too_many(serve: Serve) -> None:
    server = await serve()
    rooms = [f"{'r' * 120}{number}" for number in range(16)]
    source = await server.events("&".join(f"room={room}" for room in rooms))
    await source.joined(*rooms)
    assert len(source.last_id) < 2048
    await source.close()
    again = await server.events("&".join(f"room={room}" for room in rooms), source.last_id)
    for event in await again.joined(*rooms):
        assert event.frame["recovery"] == {"outcome": "ok"}


async def test_head_and_other_methods(serve: Serve) -> None:
    server = await serve()
    head = await server.request("HEAD", "/v1/events?room=r")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "text/event-stream"
    for method in ("POST", "PUT", "DELETE"):
        response = await server.request(method, "/v1/events?room=r")
        assert response.status_code == 405
        assert "GET" in response.headers["allow"]
    assert server.metric("sessions_opened_total") == 0


async def test_pages_by_the_one_policy_of_origins(serve: Serve) -> None:
    server = await serve(origins=["https://app.example.com"])
    source = await server.events("room=r", Origin="https://app.example.com")
    assert source.response.headers["access-control-allow-origin"] == "https://app.example.com"
    await source.joined("r")
    refused = await server.events("room=r", Origin="https://evil.example")
    assert refused.status == 403
    assert server.sessions() == 1


# Ids from strangers


@pytest.mark.parametrize(
    "hostile",
    [
        "x" * 3000,
        "99999999999999999999.AAAAAAAA",
        "1.AAAAAAAA,2.AAAAAAAA,3.AAAAAAAA",
        "-1.x",
        "?",
        "0x10",
        "%00%0d%0a",
        "9007199254740993.AAAAAAAA",
    ],
)
async def test_an_id_that_is_none_of_ours_is_told_as_reset(serve: Serve, hostile: str) -> None:
    server = await serve()
    await say(server, "r", "old")
    for source in (
        await server.events("room=r&history=5", hostile),
        await server.events(f"room=r&history=5&last_event_id={hostile}"),
    ):
        await source.expect("connected")
        await source.expect("joined", room="r", recovery={"outcome": "reset"})
        await source.expect("message", data="old")


async def test_an_id_of_the_header_counts_before_that_of_the_address(serve: Serve) -> None:
    server = await serve()
    source = await server.events("room=r")
    await source.joined("r")
    back = await server.events("room=r&last_event_id=1.AAAAAAAA", source.last_id)
    (joined,) = await back.joined("r")
    assert joined.frame["recovery"] == {"outcome": "ok"}


# The end


async def test_who_is_gone_is_gone(serve: Serve) -> None:
    server = await serve()
    source = await server.events("room=a&room=b")
    await source.joined("a", "b")
    assert (server.sessions(), server.metric("rooms")) == (1, 2)
    await source.close()
    await server.lost(0)
    assert server.metric("rooms") == 0
    assert server.metric("disconnects_total", "1006") == 1


async def test_a_sign_of_life_at_every_interval(serve: Serve) -> None:
    server = await serve(ping_interval=0.05, ping_timeout=0.1)
    source = await server.events("room=r")
    await source.joined("r")
    reading = asyncio.create_task(source.next())
    await until(lambda: source.parser.comments >= 5)
    assert server.sessions() == 1
    await say(server, "r", "still there")
    event = await reading
    assert event is not None
    assert event.frame["data"] == "still there"


async def test_a_stop_ends_streams_one_by_one(serve: Serve) -> None:
    server = await serve(drain_window=1)
    sources = [await server.events("room=a&room=b") for _ in range(4)]
    last = [(await source.joined("a", "b"))[-1].id for source in sources]
    server.begin_to_stop()
    waits = []
    for source, before in zip(sources, last, strict=True):
        event = await source.expect("disconnect", code=4200)
        assert await source.rest() == []
        assert source.parser.retry == 1000  # however soon it might
        assert source.last_id == before
        waits.append(event.frame["reconnect_after"])
    assert len(set(waits)) == 4
    assert await server.ended() == 0


async def test_while_it_stops_nobody_is_let_in(serve: Serve) -> None:
    server = await serve(drain_window=8)
    inside = await server.events("room=r")
    await inside.joined("r")
    others = [await server.user(f"user{number}") for number in range(20)]
    server.begin_to_stop()
    await until(lambda: server.container.node().draining)
    event = await (await server.events("room=r")).refused()
    assert event.frame["code"] == 4200
    server.begin_to_stop()
    for other in others:
        await other.ending()
    await inside.rest()
    assert await server.ended() == 0


async def order(server: RunningServer, what: Kick | SendAway | Block | RevokeTokens) -> None:
    await server.container.control().give(what)


async def test_who_is_kicked_from_one_room_keeps_the_others_and_stays_out(serve: Serve) -> None:
    server = await serve()
    query = "room=a&room=b&user=ann"
    source = await server.events(query)
    await source.joined("a", "b")
    await order(server, Kick(RoomId("a"), UserId("ann"), "be nice"))
    await source.expect("removed", room="a", code="kicked", reason="be nice")
    await say(server, "a", "unheard")
    await say(server, "b", "heard")
    await source.expect("message", room="b", data="heard")
    await source.close()

    back = await server.events(query, source.last_id)
    await back.joined("b")
    await order(server, Kick(RoomId("b"), UserId("ann")))
    await back.expect("removed", room="b")
    assert back.last_id == "x,x"
    await back.close()
    assert (await server.events(query, back.last_id)).status == 204
    refused = await server.events(f"{query}&last_event_id={back.last_id}")
    assert (await refused.refused()).frame["code"] == 4003
    await (await server.events(query)).joined("a", "b")  # who begins anew may come in


async def test_who_is_kicked_from_the_only_room_is_sent_away(serve: Serve) -> None:
    server = await serve()
    source = await server.events("room=a&user=ann")
    await source.joined("a")
    await order(server, Kick(RoomId("a"), UserId("ann"), "be nice"))
    await source.expect("disconnect", code=4003, reason="be nice")
    await stays_away(server, "room=a&user=ann", source)


async def test_who_is_sent_away_or_blocked_stays_away(serve: Serve) -> None:
    server = await serve()
    query = "room=a&room=b&user=ann"
    for what in (SendAway(UserId("ann"), "enough"), Block(UserId("ann"), time.time() + 600)):
        source = await server.events(query)
        await source.joined("a", "b")
        await order(server, what)
        await source.expect("disconnect", code=4003)
        await stays_away(server, query, source)
    refused = await server.events(query)
    assert (await refused.refused()).frame["code"] == 4003


async def test_a_revoked_token_ends_its_streams(serve: Serve) -> None:
    server = await serve(**JWT)
    query = f"room=r&token={token('ann', iat=time.time() - 60)}"
    source = await server.events(query)
    await source.joined("r")
    await order(server, RevokeTokens(UserId("ann"), time.time()))
    await source.expect("disconnect", code=4001)
    await stays_away(server, query, source)
    refused = await server.events(query)
    assert (await refused.refused()).frame["reason"].startswith("token_revoked")
