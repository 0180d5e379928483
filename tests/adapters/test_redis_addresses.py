import ssl

import pytest

from adapters.redis.addresses import Address, BadUrl, Topology, parse

SECRET = "s3cret"


def test_a_single_server() -> None:
    target = parse("redis://ann:pa%40ss@example.org:7000/2")
    assert target.topology is Topology.SINGLE
    assert target.seeds == (target.server,)
    assert target.server == Address("example.org", 7000, "", 2, "ann", "pa@ss")


def test_defaults() -> None:
    assert parse("redis://").server == Address("localhost", 6379)


def test_an_address_in_brackets() -> None:
    assert str(parse("redis://[::1]:7000").server) == "::1:7000"


def test_a_unix_socket() -> None:
    server = parse(f"unix://:{SECRET}@/run/redis.sock?db=3").server
    assert (server.path, server.db, server.password) == ("/run/redis.sock", 3, SECRET)
    assert str(server) == "/run/redis.sock"


def test_sentinels_and_the_master_they_watch() -> None:
    target = parse(f"redis+sentinel://ann:{SECRET}@one,two:7,[::1]/main/4?sentinel_password=other")
    assert target.topology is Topology.SENTINEL
    assert target.master == "main"
    assert [str(seed) for seed in target.seeds] == ["one:26379", "two:7", "::1:26379"]
    assert {seed.password for seed in target.seeds} == {"other"}
    assert (target.server.username, target.server.password) == ("ann", SECRET)
    assert (target.server.db, target.seeds[0].db) == (4, 0)


def test_a_sentinel_password_is_taken_literally() -> None:
    target = parse("redis+sentinel://one/main?sentinel_password=a%26b%2Bc")
    assert target.seeds[0].password == "a&b+c"


def test_a_cluster() -> None:
    target = parse(f"rediss+cluster://:{SECRET}@one:7000,two")
    assert target.topology is Topology.CLUSTER
    assert [str(seed) for seed in target.seeds] == ["one:7000", "two:6379"]
    assert all(seed.password == SECRET and seed.tls for seed in target.seeds)


def test_tls_trusts_whom_it_is_told_to(cert: tuple[str, str]) -> None:
    context = parse(f"rediss://h?ssl_ca_certs={cert[0]}").server.tls
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509"] == 1


def test_tls_without_a_check_only_when_asked_for() -> None:
    context = parse("rediss://h?ssl_cert_reqs=none").server.tls
    assert context is not None
    assert context.verify_mode is ssl.CERT_NONE


def test_tls_without_a_check_of_the_name() -> None:
    context = parse("rediss://h?ssl_check_hostname=false").server.tls
    assert context is not None
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_REQUIRED)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        f"http://:{SECRET}@h",
        f"redis:// :{SECRET}@[h",
        f"redis://ann:{SECRET}#x@h:1",  # reads as the port `s3cret`
        f"redis://ann:{SECRET}@h?unheard=of",
        f"redis://:{SECRET}@h?ssl_cert_reqs=none",
        f"rediss://:{SECRET}@h?ssl_cert_reqs=perhaps",
        f"rediss://:{SECRET}@h?ssl_ca_certs=/nowhere",
        f"redis+sentinel://:{SECRET}@h",
        f"redis+cluster://:{SECRET}@h/3",
        f"redis+cluster://:{SECRET}@h:x",
        f"redis+other://:{SECRET}@h",
        f"unix+sentinel://:{SECRET}@h",
    ],
)
def test_a_bad_url_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(BadUrl) as refused:
        parse(url)
    assert SECRET not in str(refused.value)
    # Nor may a traceback that is logged show it.
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_no_secret_is_shown() -> None:
    for url in (f"redis://ann:{SECRET}@h", f"redis+sentinel://:{SECRET}@h/m?sentinel_password=x"):
        assert SECRET not in repr(parse(url)) + str(parse(url).server)
