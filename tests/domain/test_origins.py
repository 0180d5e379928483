"""Which web pages may talk to us."""

import pytest

from domain.origins import OriginPolicy

LISTED = OriginPolicy(["https://example.com", "http://shop.example:8080"], loopback=False)
ANY = OriginPolicy(["*"], loopback=False)
CLOSED = OriginPolicy([], loopback=False)
OPEN = OriginPolicy([], loopback=True)
LOCAL = OriginPolicy([], loopback=True, local=True)
POLICIES = [LISTED, ANY, CLOSED, OPEN, LOCAL]

# What looks like an origin to a careless eye; none is one that a browser sends.
GARBAGE = [
    "",
    " ",
    "example.com",
    "//example.com",
    "https:example.com",
    "https:/example.com",
    "https://",
    "https://:443",
    "https://example.com/",
    "https://example.com/path",
    "https://example.com?x",
    "https://example.com#x",
    "https://example.com:",
    "https://example.com:x",
    "https://example.com:0443",
    "https://example.com:-1",
    "https://example.com:٤٤٣",
    "https://example.com\n",
    "\thttps://example.com",
    "https://example.com\0",
    "https://user@example.com",
    "https://example.com:x@evil.example",
    "https://example.com https://evil.example",
    "https://example.com,https://example.com",
    "https://example.com, null",
    "https://exam ple.com",
    "https://.example.com",
    "https://example..com",
    "https://*.example.com",
    "https://example.com\\.evil.example",
    "https://[::1",
    "https://::1",
    "https://exämple.com",
    "https://e\u212aample.com",
    "Null",
    "null ",
    "null, null",
    "*",
    "undefined",
]


def away(policy: OriginPolicy, origin: str | None) -> bool:
    """Whether a page of another server is let in."""
    return policy.allows(origin, "https", "rooms.example")


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_no_browser_is_let_in(policy: OriginPolicy) -> None:
    assert away(policy, None)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("origin", GARBAGE)
def test_garbage_is_refused_by_every_policy(policy: OriginPolicy, origin: str) -> None:
    assert not away(policy, origin)
    assert not policy.allows(origin, "https", "example.com")
    assert not policy.allows(origin, "https", origin.removeprefix("https://"))


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.com",
        "https://EXAMPLE.com",
        "HTTPS://example.com",
        "https://example.com:443",
        "http://shop.example:8080",
    ],
)
def test_a_listed_origin_is_let_in(origin: str) -> None:
    assert away(LISTED, origin)


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.com",
        "https://example.com:80",
        "https://example.com:8443",
        "https://example.com.",
        "https://www.example.com",
        "https://evil-example.com",
        "https://evilexample.com",
        "https://example.com.evil.example",
        "https://example.com.evil",
        "https://example.co",
        "https://example.comm",
        "https://com",
        "https://example-com",
        "https://examplexcom",
        "http://shop.example",
        "https://shop.example:8080",
        "http://shop.example:80800",
        "wss://example.com",
        "app://example.com",
        "null",
        "http://localhost",
        "http://127.0.0.1:3000",
    ],
)
def test_what_is_not_listed_is_refused(origin: str) -> None:
    assert not away(LISTED, origin)


def test_without_a_list_only_our_own_pages_are_let_in() -> None:
    assert not away(CLOSED, "https://example.com")
    assert away(CLOSED, "https://rooms.example")


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        ("https://example.com", "https", "example.com"),
        ("https://example.com", "wss", "example.com"),
        ("http://example.com", "http", "example.com"),
        ("http://example.com", "ws", "example.com"),
        ("https://EXAMPLE.com", "https", "example.COM"),
        ("https://example.com", "https", "example.com:443"),
        ("https://example.com:443", "https", "example.com"),
        ("http://example.com", "http", "example.com:80"),
        ("http://example.com:8000", "http", "example.com:8000"),
        ("https://example.com:8443", "https", "example.com:8443"),
        ("http://[::1]:8000", "http", "[::1]:8000"),
        ("http://192.0.2.1:8000", "ws", "192.0.2.1:8000"),
        ("https://example.com.", "https", "example.com."),
        # a proxy took the TLS off
        ("https://example.com", "http", "example.com"),
        ("https://example.com", "ws", "example.com:443"),
        ("https://example.com:8443", "ws", "example.com:8443"),
    ],
)
def test_our_own_pages_are_let_in(origin: str, scheme: str, host: str) -> None:
    assert CLOSED.allows(origin, scheme, host)
    assert LISTED.allows(origin, scheme, host)


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        ("http://example.com", "https", "example.com"),
        ("http://example.com", "wss", "example.com:80"),
        ("http://example.com:443", "wss", "example.com"),
        ("https://example.com", "http", "example.com:80"),
        ("https://example.com", "https", "example.com:8443"),
        ("https://example.com:8443", "https", "example.com"),
        ("http://example.com:8000", "http", "example.com"),
        ("http://example.com:8000", "http", "example.com:8001"),
        ("https://example.com", "https", "example.com."),
        ("https://example.com", "https", "www.example.com"),
        ("https://evil.example", "https", "example.com"),
        ("https://example.com.evil.example", "https", "example.com"),
        ("https://example.com", "https", "example.com.evil.example"),
        ("ftp://example.com", "ftp", "example.com"),
        ("app://example.com", "http", "example.com"),
        ("https://example.com", "https", ""),
        ("https://example.com", "https", "example.com:"),
        ("https://example.com", "https", "user@example.com"),
        ("https://example.com", "https", "example.com, example.com"),
        ("https://example.com", "https", "example.com/"),
        ("https://example.com", "https", "example.com\n"),
        ("null", "https", "null"),
        ("null", "http", ""),
    ],
)
def test_other_pages_are_not_ours(origin: str, scheme: str, host: str) -> None:
    assert not CLOSED.allows(origin, scheme, host)


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:3000",
        "http://LOCALHOST:3000",
        "http://127.0.0.1",
        "http://127.0.0.1:5173",
    ],
)
def test_pages_on_this_machine_are_let_in_where_asked_for(origin: str) -> None:
    assert away(OPEN, origin)
    assert not away(CLOSED, origin)


@pytest.mark.parametrize(
    "origin",
    [
        "https://localhost:3000",
        "http://localhost.evil.example",
        "http://evil-localhost",
        "http://localhost.",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.2",
        "http://0.0.0.0:3000",
        "http://2130706433",
        "http://192.168.0.2:3000",
        "http://example.com",
        "null",
    ],
)
def test_nothing_else_counts_as_this_machine(origin: str) -> None:
    assert not away(OPEN, origin)


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        ("http://rebound.example", "http", "rebound.example"),
        ("http://rebound.example:8000", "http", "rebound.example:8000"),
        ("http://rebound.example:8000", "ws", "rebound.example:8000"),
        ("https://rebound.example", "https", "rebound.example"),
        ("https://rebound.example", "http", "rebound.example"),  # behind a proxy with TLS
        ("http://localhost.rebound.example", "http", "localhost.rebound.example"),
        ("http://127.0.0.1.rebound.example", "http", "127.0.0.1.rebound.example"),
        ("http://localhost.", "http", "localhost."),
        ("http://192.168.0.2:8000", "http", "192.168.0.2:8000"),
        ("http://0.0.0.0:8000", "http", "0.0.0.0:8000"),
        ("http://127.0.0.2:8000", "http", "127.0.0.2:8000"),
        ("http://[::2]:8000", "http", "[::2]:8000"),
    ],
)
def test_a_name_that_was_made_to_lead_here_is_not_ours_where_only_this_machine_gets_in(
    origin: str, scheme: str, host: str
) -> None:
    assert not LOCAL.allows(origin, scheme, host)
    assert OPEN.allows(origin, scheme, host)  # where it may be the name everybody knows us by
    assert CLOSED.allows(origin, scheme, host)


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        ("http://localhost:8000", "http", "localhost:8000"),
        ("http://LOCALHOST:8000", "ws", "localhost:8000"),
        ("http://127.0.0.1:8000", "ws", "127.0.0.1:8000"),
        ("http://[::1]:8000", "http", "[::1]:8000"),
        ("https://localhost:8443", "https", "localhost:8443"),
        ("https://[::1]", "wss", "[::1]"),
    ],
)
def test_by_its_loopback_names_it_is_of_the_same_origin(
    origin: str, scheme: str, host: str
) -> None:
    assert OriginPolicy([], loopback=False, local=True).allows(origin, scheme, host)
    assert LOCAL.allows(origin, scheme, host)


@pytest.mark.parametrize("port", ["", ":3000"])
def test_other_pages_of_this_machine_get_in_by_name_not_by_being_here(port: str) -> None:
    without = OriginPolicy([], loopback=False, local=True)
    for host in ("localhost", "127.0.0.1"):
        assert LOCAL.allows(f"http://{host}{port}", "http", "127.0.0.1:8000")
        assert not without.allows(f"http://{host}{port}", "http", "127.0.0.1:8000")
    assert not LOCAL.allows(f"http://[::1]{port}", "http", "127.0.0.1:8000")


def test_what_is_listed_gets_in_whatever_it_is_called_here() -> None:
    page = "http://dashboard.internal:8000"
    for listed in ([page], ["*"]):
        policy = OriginPolicy(listed, loopback=True, local=True)
        assert policy.allows(page, "http", "dashboard.internal:8000")
        assert policy.allows(page, "http", "127.0.0.1:8000")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://a:8080", "http://[::1]:3000", "app://-", "x-y://z"]
)
def test_a_star_is_every_origin(origin: str) -> None:
    assert away(ANY, origin)


def test_no_origin_at_all_must_be_listed_by_name() -> None:
    assert not away(ANY, "null")
    assert away(OriginPolicy(["null"], loopback=False), "null")
    assert away(OriginPolicy(["*", "null"], loopback=False), "null")
    assert not away(OriginPolicy(["null"], loopback=False), "https://example.com")


def test_listed_origins_are_compared_as_browsers_write_them() -> None:
    policy = OriginPolicy(
        ["HTTPS://Example.COM:443", "app://shell", "http://[::1]:3000"], loopback=False
    )
    for origin in ("https://example.com", "app://shell", "http://[::1]:3000"):
        assert away(policy, origin)
    for origin in ("app://shell:1", "http://[::1]"):
        assert not away(policy, origin)


@pytest.mark.parametrize(
    ("listed", "advice"),
    [
        ("example.com", "write https://example.com"),
        ("localhost:3000", "write http://localhost:3000"),
        ("https://example.com/", "write https://example.com"),
        ("https://example.com/app?x=1", "write https://example.com"),
        (" https://example.com", "write https://example.com"),
        ("https://user:secret@example.com", "write https://example.com"),
        ("wss://example.com:8443", "write https://example.com:8443"),
        ("ws://Example.com", "write http://example.com"),
        ("https://bücher.example", "write https://xn--bcher-kva.example"),
        ("http://[0:0:0:0:0:0:0:1]:3000", r"write http://\[::1\]:3000"),
        ("https://*.example.com", r"a \* stands alone"),
        ("http://localhost:*", r"a \* stands alone"),
        ("**", r"a \* stands alone"),
        ("Null", "write null"),
        ("", "write scheme://host"),
        ("https://", "write scheme://host"),
        ("https://example.com:99999", "write scheme://host"),
        ("https://[1::2::3]", "write scheme://host"),
        ("https://[1.2.3.4]", "write scheme://host"),
        ("https://example.com, https://other.example", "write scheme://host"),
        ("https://a..b", "write scheme://host"),
    ],
)
def test_a_malformed_entry_says_what_to_write_instead(listed: str, advice: str) -> None:
    with pytest.raises(ValueError, match=f"is no origin: {advice}"):
        OriginPolicy(["https://fine.example", listed], loopback=False)


# Hosts, where there is no origin


@pytest.mark.parametrize(
    "host",
    [None, "localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "10.1.2.3"],
)
def test_this_machine_is_reached_by_its_own_names_and_by_addresses(host: str | None) -> None:
    assert LOCAL.knows(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example, localhost",
        "localhost, localhost",
        "localhost:8000@evil.example",
        "1a.2.3.4",
        "localhost:x",
        "[evil.example]",
        " localhost",
    ],
)
def test_a_name_that_was_made_to_lead_here_is_unknown(host: str) -> None:
    assert not LOCAL.knows(host)
    assert not OriginPolicy(["https://example.com", "null"], loopback=True, local=True).knows(host)


def test_the_hosts_of_listed_origins_are_known() -> None:
    policy = OriginPolicy(["https://rooms.example.com"], loopback=True, local=True)
    assert policy.knows("rooms.example.com")
    assert policy.knows("Rooms.Example.com:8000")
    assert not policy.knows("example.com")
    assert OriginPolicy(["*"], loopback=True, local=True).knows("anything.example")


@pytest.mark.parametrize("policy", [LISTED, ANY, CLOSED, OPEN])
def test_a_server_that_others_reach_has_any_name(policy: OriginPolicy) -> None:
    assert policy.knows("rooms.example")
