import logging
import ssl
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from pydantic import ValidationError

from domain.identifiers import room_id
from domain.options import PresenceMode, PublishPolicy, RoomOptions
from entrypoints.bind import address, is_loopback
from entrypoints.settings import Settings, SettingsError, load_settings

SECRET = "s3cret-" * 8


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hubbub.toml of somebody else, and nothing from the real environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUBBUB_PORT", "1")


def problems(
    environ: Mapping[str, str], config: Path | None = None, **overrides: object
) -> tuple[str, ...]:
    """Why these settings refuse to start."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, config, overrides)
    error = caught.value
    # Whoever logs the error with its history must not log the values.
    assert error.__cause__ is None
    assert error.__context__ is None or not isinstance(error.__context__, ValidationError)
    return error.problems


def problem(environ: Mapping[str, str], config: Path | None = None, **overrides: object) -> str:
    """The one reason."""
    found = problems(environ, config, **overrides)
    assert len(found) == 1, found
    return found[0]


def write(text: str, name: str = "hubbub.toml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# --- defaults and sources ----------------------------------------------------------------------


def test_with_nothing_said_it_is_a_first_try_on_loopback() -> None:
    settings = load_settings({}, None, {})
    assert (settings.host, settings.port, settings.backend) == ("127.0.0.1", 8000, "memory")
    assert settings.auth.mode == "open"
    assert settings.origins == []
    assert (settings.ping_interval, settings.ping_timeout) == (25.0, 10.0)
    assert (settings.presence_grace, settings.drain_window) == (10.0, 20.0)
    assert settings.limits.model_dump() == {
        "frame_bytes": 65_536,
        "outbox_bytes": 1_048_576,
        "history_bytes": 268_435_456,
        "rooms": 100_000,
        "rooms_per_connection": 128,
        "messages_per_second": 100.0,
        "messages_burst": 200,
        "commands_per_second": 50.0,
        "commands_burst": 100,
        "connections": 10_000,
        "connections_per_address": 1_000,
        "connections_per_user": 100,
        "handshakes_per_second": 500.0,
        "handshakes_burst": 1_000,
        "unauthenticated": 1_000,
        "auth_timeout": 5.0,
    }


def test_a_settings_object_reads_nothing_by_itself() -> None:
    assert Settings().port == 8000


def test_flags_beat_the_environment_which_beats_the_file() -> None:
    write('host = "127.0.0.3"\nport = 3\nping_interval = 3\n[auth]\nissuer = "file"')
    environ = {"HUBBUB_HOST": "127.0.0.2", "HUBBUB_PORT": "2", "HUBBUB_AUTH__AUDIENCE": "env"}
    settings = load_settings(environ, None, {"host": "127.0.0.1", "port": None})
    assert (settings.host, settings.port, settings.ping_interval) == ("127.0.0.1", 2, 3.0)
    assert (settings.auth.issuer, settings.auth.audience) == ("file", "env")


def test_a_named_file_takes_the_place_of_the_one_in_the_folder() -> None:
    write("port = 1")
    assert load_settings({}, write("ping_interval = 2", "other.toml"), {}).port == 8000


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("*", ["*"]),
        ("https://a.example, https://b.example", ["https://a.example", "https://b.example"]),
        ('["https://a.example", "null"]', ["https://a.example", "null"]),
        (",", []),
    ],
)
def test_origins_are_a_list_with_commas_or_in_json(text: str, origins: list[str]) -> None:
    assert load_settings({"HUBBUB_ORIGINS": text}, None, {}).origins == origins


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({}, True),
        ({"HUBBUB_PAGES": "false"}, False),
        ({"HUBBUB_AUTH__MODE": "jwt", "HUBBUB_AUTH__HMAC_SECRET": SECRET}, False),
        ({"HUBBUB_AUTH__MODE": "jwt", "HUBBUB_AUTH__HMAC_SECRET": SECRET, "HUBBUB_PAGES": "1"},
         True),
    ],
)  # fmt: skip
def test_pages_follow_the_mode_unless_told(environ: dict[str, str], shown: bool) -> None:
    assert load_settings(environ, None, {}).show_pages is shown


def test_paths_in_the_file_are_relative_to_the_file() -> None:
    write("a key", "etc/key.pem")
    config = write('[auth]\npublic_key_file = "key.pem"', "etc/hubbub.toml")
    assert load_settings({}, config, {}).auth.public_key_file == Path("etc/key.pem")


# --- names nobody knows ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("HUBBUB_PROT", "HUBBUB_PORT"),
        ("HUBBUB_AUTH_MODE", "HUBBUB_AUTH__MODE"),
        ("HUBBUB_HMAC_SECRET", "HUBBUB_AUTH__HMAC_SECRET"),
        ("HUBBUB_LIMITS__FRAME_BYTE", "HUBBUB_LIMITS__FRAME_BYTES"),
        ("HUBBUB_ORIGIN", "HUBBUB_ORIGINS"),
        ("hubbub_port", "HUBBUB_PORT"),
        ("Hubbub_Redis_Url", "HUBBUB_REDIS_URL"),
    ],
)
def test_an_unknown_environment_name_is_refused(name: str, meant: str) -> None:
    assert problem({name: "1"}) == f"{name} is not a setting; did you mean {meant}?"


def test_an_unknown_name_that_is_like_none_gets_no_suggestion() -> None:
    assert problem({"HUBBUB_ZZZ": "1"}) == (
        "HUBBUB_ZZZ is not a setting; `hubbub check` shows all there are"
    )


def test_other_peoples_environment_is_left_alone() -> None:
    assert load_settings({"PORT": "x", "XHUBBUB_PROT": "x", "HUBBUBX": "x"}, None, {}).port == 8000


def test_an_empty_environment_value_is_refused() -> None:
    assert problem({"HUBBUB_API_KEY": ""}) == (
        "HUBBUB_API_KEY is empty: give it a value or leave it out"
    )


def test_names_that_kubernetes_made_are_explained() -> None:
    found = problems({"HUBBUB_SERVICE_HOST": "10.0.0.1", "HUBBUB_PORT_80_TCP": "tcp://10.0.0.1"})
    assert "enableServiceLinks" in found[-1]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("prot = 1", "prot in hubbub.toml is not a setting; did you mean port?"),
        ("[auth]\nmdoe = 1", "auth.mdoe in hubbub.toml is not a setting; did you mean auth.mode?"),
        ("[atuh]\nmode = 1", "atuh in hubbub.toml is not a setting; did you mean auth?"),
        ('hmac_secret = "x"',
         "hmac_secret in hubbub.toml is not a setting; did you mean auth.hmac_secret?"),
        ('[[rooms]]\nmatch = "a"\nhistory_szie = 1',
         "rooms (number 1, history_szie) in hubbub.toml is not a setting; "
         "did you mean history_size?"),
        ("_build_sources = 1",
         "_build_sources in hubbub.toml is not a setting; `hubbub check` shows all there are"),
    ],
)  # fmt: skip
def test_an_unknown_name_in_the_file_is_refused(text: str, line: str) -> None:
    write(text)
    assert problem({}) == line


# --- values that cannot be ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("HUBBUB_PORT", "abc", "must be a whole number, not 'abc'"),
        ("HUBBUB_PORT", "70000", "must be at most 65535, not '70000'"),
        ("HUBBUB_PORT", "-1", "must be at least 0, not '-1'"),
        ("HUBBUB_BACKEND", "mysql", "must be 'memory' or 'redis', not 'mysql'"),
        ("HUBBUB_PING_INTERVAL", "0", "must be above 0, not '0'"),
        ("HUBBUB_PING_INTERVAL", "inf", "must be a number below infinity, not 'inf'"),
        ("HUBBUB_PRESENCE_GRACE", "nan", "must be a number below infinity, not 'nan'"),
        ("HUBBUB_PAGES", "maybe", "must be true or false, not 'maybe'"),
        ("HUBBUB_LOG_LEVEL", "loud", "must be 'debug', 'info', 'warning', 'error' or 'critical', "
         "not 'loud'"),
        ("HUBBUB_AUTH__MODE", "none", "must be 'open' or 'jwt', not 'none'"),
        ("HUBBUB_LIMITS__CONNECTIONS", "0", "must be at least 1, not '0'"),
        ("HUBBUB_LIMITS__MESSAGES_PER_SECOND", "-1", "must be at least 0, not '-1'"),
        ("HUBBUB_ORIGINS", "example.com", "'example.com' is no origin: write https://example.com"),
        ("HUBBUB_ORIGINS", "[", "is not JSON"),
        ("HUBBUB_TRUSTED_PROXIES", "*", "'*' is no address and no network like 10.0.0.0/8: "
         "'*' does not appear to be an IPv4 or IPv6 network"),
        ("HUBBUB_TRUSTED_PROXIES", "10.0.0.1,proxy", "'proxy' is no address and no network like "
         "10.0.0.0/8: 'proxy' does not appear to be an IPv4 or IPv6 network"),
        ("HUBBUB_TRUSTED_PROXIES", "10.0.0.1/8", "'10.0.0.1/8' is no address and no network like "
         "10.0.0.0/8: 10.0.0.1/8 has host bits set"),
        ("HUBBUB_TRUSTED_PROXIES", "0.0.0.0/0",
         "'0.0.0.0/0' would let everybody choose the address they count for"),
        ("HUBBUB_TRUSTED_PROXIES", "::/0",
         "'::/0' would let everybody choose the address they count for"),
        ("HUBBUB_ROOMS", "[", "is not JSON"),
        ("HUBBUB_AUTH__PUBLIC_KEY_FILE", "nowhere.pem",
         "nowhere.pem cannot be read: No such file or directory"),
        ("HUBBUB_SSL_CERTFILE", "nowhere.pem",
         "nowhere.pem cannot be read: No such file or directory"),
        ("HUBBUB_AUTH__JWKS_URL", "keys.json",
         "must be a URL like https://login.example.com/jwks.json"),
        ("HUBBUB_AUTH__JWKS_URL", "http://id.example/keys",
         "must begin with https://: who changes the keys on the way is let in"),
        ("HUBBUB_LIMITS__OUTBOX_BYTES", "262143",
         "must hold 4 frames of limits.frame_bytes: at least 262144"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_told_in_one_line(name: str, value: str, complaint: str) -> None:
    assert problem({name: value}) == f"{name} {complaint}"


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example/keys", "https://id.example:8443/a/keys?tenant=1", "https://[2001:db8::1]/",
        "http://127.0.0.1/keys", "http://localhost:8080/keys", "http://[::1]:1/", "HTTPS://id.example",
    ],
)  # fmt: skip
def test_keys_may_be_at(url: str) -> None:
    environ = {"HUBBUB_AUTH__JWKS_URL": url, "HUBBUB_AUTH__MODE": "jwt", "HUBBUB_HOST": "0.0.0.0"}
    assert load_settings(environ, None, {}).auth.jwks_url == url


@pytest.mark.parametrize(
    "url",
    [
        "id.example", "/keys", "https://", "https:///keys", "https:keys", "ftp://id.example/keys",
        "file:///etc/passwd", "http://127.0.0.1.evil.example/", "http://localhost.evil.example/",
        "http://127.0.0.1@evil.example/", "https://ann:secret@id.example/", "https://id.example/#a",
        "https://id.example:port/", "https://id.example:99999/", "https://[::1/",
        "https://ex ample/",
        "https://id.example/\n", "https://id.ex\u00e4mple/", "data:,{}", "unix:///run/keys",
    ],
)  # fmt: skip
def test_keys_may_not_be_at(url: str) -> None:
    told = problem({"HUBBUB_AUTH__JWKS_URL": url})
    assert told.startswith(("HUBBUB_AUTH__JWKS_URL must ", "HUBBUB_AUTH__JWKS_URL is no URL")), told
    assert "secret" not in told


def test_proxies_are_addresses_and_networks() -> None:
    environ = {"HUBBUB_TRUSTED_PROXIES": "10.0.0.7, 10.1.0.0/16,2001:db8::/32"}
    found = load_settings(environ, None, {}).trusted_proxies
    assert found == ["10.0.0.7", "10.1.0.0/16", "2001:db8::/32"]


def test_an_outbox_of_four_frames_is_enough() -> None:
    environ = {"HUBBUB_LIMITS__OUTBOX_BYTES": "262144"}
    assert load_settings(environ, None, {}).limits.outbox_bytes == 262_144


def test_every_problem_is_told_at_once_by_the_name_it_was_given() -> None:
    write("port = true\nhost = 3\n[limits]\nconnections = 1.5")
    found = problems({"HUBBUB_PING_TIMEOUT": "x"}, log_level="loud")
    assert set(found) == {
        "port in hubbub.toml must be a number, not true or false",
        "host in hubbub.toml must be text, not 3",
        "limits.connections in hubbub.toml must be a whole number, not 1.5",
        "HUBBUB_PING_TIMEOUT must be a number, not 'x'",
        "--log-level must be 'debug', 'info', 'warning', 'error' or 'critical', not 'loud'",
    }


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"port = ", "is not TOML: Invalid value"),
        (b"\xff", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(content: bytes, complaint: str) -> None:
    Path("hubbub.toml").write_bytes(content)
    assert complaint in problem({})


def test_a_named_file_must_be_there() -> None:
    assert problem({}, Path("nowhere.toml")) == (
        "nowhere.toml cannot be read: No such file or directory"
    )


# --- what must not be started ------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.2", "example.com", "127.0.0.1.example.com", "localhost2"]
)
def test_open_mode_does_not_listen_beyond_loopback(host: str) -> None:
    told = problem({"HUBBUB_HOST": host})
    assert told.startswith(f"HUBBUB_HOST is {host}, which others can reach")
    assert "HUBBUB_AUTH__MODE=jwt" in told
    assert "--allow-anonymous" in told


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LocalHost"])
def test_open_mode_listens_on_loopback(host: str) -> None:
    assert load_settings({"HUBBUB_HOST": host}, None, {}).host == host


def test_open_mode_listens_anywhere_when_told_that_this_is_meant() -> None:
    for environ in ({"HUBBUB_ALLOW_ANONYMOUS": "true"}, {}):
        overrides = {} if environ else {"allow_anonymous": True}
        settings = load_settings({"HUBBUB_HOST": "0.0.0.0", **environ}, None, overrides)
        assert settings.host == "0.0.0.0"


def test_with_tokens_it_listens_anywhere() -> None:
    environ = {
        "HUBBUB_HOST": "0.0.0.0",
        "HUBBUB_AUTH__MODE": "jwt",
        "HUBBUB_AUTH__HMAC_SECRET": SECRET,
    }
    assert load_settings(environ, None, {}).auth.hmac_bytes == SECRET.encode()


def test_tokens_need_a_key() -> None:
    assert problem({"HUBBUB_AUTH__MODE": "jwt"}) == (
        "HUBBUB_AUTH__MODE is jwt, which needs HUBBUB_AUTH__HMAC_SECRET, "
        "HUBBUB_AUTH__PUBLIC_KEY_FILE or HUBBUB_AUTH__JWKS_URL"
    )


def test_several_workers_need_a_shared_backend() -> None:
    assert problem({"HUBBUB_WORKERS": "2"}) == (
        "HUBBUB_WORKERS is 2, and rooms in the memory of one process are not those of another: "
        "set HUBBUB_BACKEND=redis and HUBBUB_REDIS_URL, or leave it at 1"
    )


def test_only_redis_has_replicas() -> None:
    assert problem({"HUBBUB_REDIS_REPLICAS": "1"}) == (
        "HUBBUB_REDIS_REPLICAS is 1, which only the backend redis has"
    )


def test_redis_needs_an_address() -> None:
    assert problem({"HUBBUB_BACKEND": "redis"}) == (
        "HUBBUB_BACKEND is redis, which needs HUBBUB_REDIS_URL"
    )


# --- a port for operations ---------------------------------------------------------------------


def test_operations_are_on_the_port_of_clients_unless_told_otherwise() -> None:
    assert Settings().operations.port is None
    settings = load_settings({"HUBBUB_OPERATIONS__PORT": "9100"}, None, {})
    assert (settings.operations.host, settings.operations.port) == ("127.0.0.1", 9100)


def test_the_two_ports_differ() -> None:
    told = problem({"HUBBUB_PORT": "9100", "HUBBUB_OPERATIONS__PORT": "9100"})
    assert told.startswith("HUBBUB_OPERATIONS__PORT is 9100, where clients come: take another")
    both_free = {"HUBBUB_PORT": "0", "HUBBUB_OPERATIONS__PORT": "0"}
    assert load_settings(both_free, None, {}).operations.port == 0


def test_an_address_for_operations_needs_their_port() -> None:
    assert problem({"HUBBUB_OPERATIONS__HOST": "0.0.0.0"}) == (
        "HUBBUB_OPERATIONS__HOST needs HUBBUB_OPERATIONS__PORT beside it"
    )


@pytest.mark.parametrize("port", ["-1", "65536", "true", "x"])
def test_a_port_for_operations_is_one(port: str) -> None:
    assert "HUBBUB_OPERATIONS__PORT must be" in problem({"HUBBUB_OPERATIONS__PORT": port})


# --- TLS ---------------------------------------------------------------------------------------


def certificate(name: str, encryption: KeySerializationEncryption | None = None) -> None:
    """Write name.crt and name.key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    Path(f"{name}.crt").write_bytes(signed.public_bytes(Encoding.PEM))
    form = (Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    Path(f"{name}.key").write_bytes(key.private_bytes(*form))


def tls(cert: str, key: str) -> dict[str, str]:
    return {"HUBBUB_SSL_CERTFILE": cert, "HUBBUB_SSL_KEYFILE": key}


def test_a_certificate_with_its_key_turns_tls_on() -> None:
    certificate("a")
    assert load_settings(tls("a.crt", "a.key"), None, {}).tls
    assert not load_settings({}, None, {}).tls


def test_certificate_and_key_come_together() -> None:
    certificate("a")
    assert problem({"HUBBUB_SSL_CERTFILE": "a.crt"}) == (
        "HUBBUB_SSL_CERTFILE needs HUBBUB_SSL_KEYFILE beside it"
    )
    assert problem({}, ssl_keyfile="a.key") == "--ssl-keyfile needs HUBBUB_SSL_CERTFILE beside it"


def test_a_key_of_another_certificate_is_refused() -> None:
    certificate("a")
    certificate("b")
    assert "cannot be used" in problem(tls("a.crt", "b.key"))


def test_an_encrypted_key_is_refused_instead_of_asking_at_the_terminal() -> None:
    certificate("a", BestAvailableEncryption(b"password"))
    with pytest.raises(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain("a.crt", "a.key", lambda: "")
    assert "unencrypted" in problem(tls("a.crt", "a.key"))


# --- secrets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "complaint"),
    [
        ("x" * 31, "has 31 bytes and needs at least 32"),
        ("x" * 32 + "\n", "begins or ends with white space"),
        ("-----BEGIN PUBLIC KEY-----\n" + "x" * 32, "HUBBUB_AUTH__PUBLIC_KEY_FILE"),
        ("x" * 32 + "\udce9", "must be UTF-8 text"),
        ("at-least-thirty-two-bytes-of-randomness", "is the one of the example"),
    ],
)
def test_a_poor_hmac_secret_refuses_to_start(secret: str, complaint: str) -> None:
    told = problem({"HUBBUB_AUTH__HMAC_SECRET": secret})
    assert complaint in told
    assert "xxx" not in told


def test_the_length_of_a_secret_is_counted_in_bytes() -> None:
    settings = load_settings({"HUBBUB_AUTH__HMAC_SECRET": "é" * 16}, None, {})
    assert settings.auth.hmac_bytes == ("é" * 16).encode()


CANARY = "c4nary-c4nary-c4nary"


@pytest.mark.parametrize(
    "environ",
    [
        {"HUBBUB_AUTH__HMAC_SECRET": CANARY},
        {"HUBBUB_API_KEY": CANARY[:15]},
        {"HUBBUB_API_KEY": f"{CANARY} with a space"},
        {"HUBBUB_API_KEY": f"{CANARY}é"},
        {"HUBBUB_REDIS_URL": f"http://u:{CANARY}@host"},
        {"HUBBUB_AUTH__HMAC_SECERT": CANARY},
        {"HUBBUB_AUTH": CANARY},
    ],
)
def test_a_problem_with_a_secret_does_not_show_it(environ: dict[str, str]) -> None:
    assert CANARY[:15] not in problem(environ)


@pytest.mark.parametrize(
    "text",
    [
        f'auth = "{CANARY}"',
        f'auth = ["{CANARY}"]',
        f'[auth]\nhmac_secret = ["{CANARY}"]',
        f'[auth]\nhmac_secert = "{CANARY}"',
        f'[auth.hmac_secret]\nkey = "{CANARY}"',
        f'redis_url = ["{CANARY}"]',
    ],
)
def test_a_problem_with_a_secret_in_the_file_does_not_show_it(text: str) -> None:
    write(text)
    assert all(CANARY not in line for line in problems({}))


def test_secrets_are_hidden_wherever_settings_are_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    environ = {
        "HUBBUB_AUTH__HMAC_SECRET": f"redis://{CANARY}" + "x" * 32,
        "HUBBUB_API_KEY": CANARY,
        "HUBBUB_REDIS_URL": f"redis://{CANARY}:{CANARY}/{CANARY}@host:6379/1?password={CANARY}",
    }
    with caplog.at_level(logging.DEBUG):
        settings = load_settings(environ, None, {})
    shown = "\n".join(
        [repr(settings), str(settings), settings.model_dump_json(), *settings.describe()]
    )
    assert CANARY not in shown + caplog.text
    assert "@host:6379/1" in shown


REACHABLE = ["0.0.0.0", "::", "10.0.0.1", "rooms.example.com", ""]
KEYLESS: list[dict[str, str]] = [
    {},
    {"HUBBUB_AUTH__MODE": "open"},
    {"HUBBUB_AUTH__MODE": "jwt"},
    {"HUBBUB_AUTH__MODE": "jwt", "HUBBUB_AUTH__HMAC_SECRET": "secret"},
    {"HUBBUB_AUTH__MODE": "jwt", "HUBBUB_AUTH__HMAC_SECRET": "x" * 31},
    {"HUBBUB_AUTH__MODE": "jwt", "HUBBUB_AUTH__HMAC_SECRET": ""},
    {
        "HUBBUB_AUTH__MODE": "jwt",
        "HUBBUB_AUTH__HMAC_SECRET": "at-least-thirty-two-bytes-of-randomness",
    },
    {"HUBBUB_AUTH__MODE": "jwt", "HUBBUB_AUTH__JWKS_URL": "http://id.example/keys"},
    {"HUBBUB_AUTH__MODE": "jwt", "HUBBUB_AUTH__HMAC_SECRET": SECRET, "HUBBUB_API_KEY": "key"},
    {
        "HUBBUB_AUTH__MODE": "jwt",
        "HUBBUB_AUTH__HMAC_SECRET": SECRET,
        "HUBBUB_API_KEY": "a-long-random-key",
    },
    {"HUBBUB_API_KEY": "a-good-key-of-its-own-making"},
]


@pytest.mark.parametrize("host", REACHABLE)
@pytest.mark.parametrize("environ", KEYLESS, ids=str)
def test_nothing_that_others_can_reach_starts_without_secrets_of_its_own(
    host: str, environ: dict[str, str]
) -> None:
    assert problems({"HUBBUB_HOST": host, **environ})


def test_a_key_for_this_run_changes_nothing_else() -> None:
    settings = Settings(port=9)
    changed = settings.with_hmac_secret(SECRET)
    assert changed.auth.hmac_bytes == SECRET.encode()
    assert changed.port == 9
    assert not settings.auth.has_key


# --- room options ------------------------------------------------------------------------------


def test_the_first_rule_that_matches_a_room_decides() -> None:
    write(
        """
        [[rooms]]
        match = "chat:big"
        presence = "count"
        history_size = 5

        [[rooms]]
        match = "chat:*"
        history_ttl = 60
        presence_limit = 10
        publish = "members"
        max_members = 3
        rate = 2.5
        conflate = true
        """
    )
    catalog = load_settings({}, None, {}).catalog()
    assert catalog.of(room_id("chat:big")) == RoomOptions(
        history_size=5, presence=PresenceMode.COUNT
    )
    assert catalog.of(room_id("chat:other")) == RoomOptions(
        history_ttl=60,
        presence_limit=10,
        publish=PublishPolicy.MEMBERS,
        max_members=3,
        rate=2.5,
        conflate=True,
    )
    assert catalog.of(room_id("news")) == RoomOptions()


@pytest.mark.parametrize(
    ("rooms", "complaint"),
    [
        ('[{"match": "a*b"}]', "(number 1) 'a*b' is no pattern"),
        ('[{"history_size": 1}]', "(number 1, match) is needed"),
        ('[{"match": "a", "history_size": -1}]', "(number 1) history_size must be 0 to 10000"),
        ('[{"match": "a"}, {"match": "b", "presence": "all"}]',
         "(number 2, presence) must be 'list', 'count' or 'off', not 'all'"),
        ('[{"match": "a"}, 3]', "(number 2) must be a table, not 3"),
        ('{"match": "a"}', "must be a list"),
        ('[{"match": "chat:*"}, {"match": "chat:a"}]', "(number 2) never applies: number 1"),
        ('[{"match": "a"}, {"match": "a"}]', "(number 2) never applies: number 1"),
        ('[{"match": "*"}, {"match": "a*"}]', "(number 2) never applies: number 1"),
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused(rooms: str, complaint: str) -> None:
    assert problem({"HUBBUB_ROOMS": rooms}).startswith(f"HUBBUB_ROOMS {complaint}")


@pytest.mark.parametrize(
    "rooms",
    [
        '[{"match": "*"}, {"match": "@*"}]',
        '[{"match": "chat:a"}, {"match": "chat:*"}]',
        '[{"match": "chat"}, {"match": "chat:*"}]',
    ],
)
def test_rules_that_leave_each_other_room_are_fine(rooms: str) -> None:
    assert len(load_settings({"HUBBUB_ROOMS": rooms}, None, {}).rooms) == 2


# --- telling what is in force ------------------------------------------------------------------


def test_the_description_is_toml_and_tells_who_decided() -> None:
    write('ping_interval = 20\n[[rooms]]\nmatch = "chat:*"\npresence = "off"')
    environ = {"HUBBUB_ORIGINS": "*", "HUBBUB_AUTH__ISSUER": 'a "quoted" ü'}
    lines = load_settings(environ, None, {"port": 9}).describe()
    assert "port = 9  # --port" in lines
    assert 'origins = ["*"]  # HUBBUB_ORIGINS' in lines
    assert "ping_interval = 20.0  # hubbub.toml" in lines
    assert 'host = "127.0.0.1"  # default' in lines
    assert "# api_key is not set" in lines
    parsed = tomllib.loads("\n".join(lines))
    assert parsed["auth"]["issuer"] == 'a "quoted" ü'
    assert parsed["rooms"] == [{"match": "chat:*", "presence": "off"}]


def test_the_description_without_secrets_can_be_loaded_again() -> None:
    write('port = 7\n[limits]\nconnections = 5\n[[rooms]]\nmatch = "a"\nrate = 3')
    settings = load_settings({}, None, {})
    again = load_settings({}, write("\n".join(settings.describe()), "again.toml"), {})
    assert again.model_dump() == settings.model_dump()


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("::ffff:127.0.0.1", True), ("::ffff:10.0.0.1", False), ("", False), ("127.1", False)],
)
def test_loopback_is_told_by_the_address(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("example.com", "http://example.com:80"),
    ],
)
def test_an_address_can_be_opened_from_this_machine(host: str, url: str) -> None:
    assert address("http", host, 80) == url


def test_a_port_that_is_not_known_yet_is_not_shown_as_zero() -> None:
    assert address("ws", "::1", 0) == "ws://[::1]:PORT"
