"""The composition root: everything resolves, once, for every configuration there is."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dependency_injector import errors, providers

from adapters.memory.broker import MemoryBroker
from adapters.memory.presence import MemoryPresence
from adapters.redis.broker import RedisBroker
from adapters.redis.presence import RedisPresence
from domain.errors import TokenInvalid
from entrypoints.asgi import build_container
from entrypoints.container import Container
from entrypoints.settings import Settings, SettingsError
from tests.tokens import JWT, token


def jwt_with(key_file: Path) -> dict[str, Any]:
    return {"auth": {"mode": "jwt", "public_key_file": key_file}}


REDIS: dict[str, Any] = {"backend": "redis", "redis_url": "redis://127.0.0.1"}
ONLY_WITH_REDIS = {"store", "channels", "keyspace", "redis_presence"}


def provided(container: Container) -> dict[str, providers.Provider[Any]]:
    """What there is for the configured backend, but `beneath`, which lists some of it."""
    left_out = {"settings", "beneath"}
    if container.settings().backend == "memory":
        left_out |= ONLY_WITH_REDIS
    found: dict[str, providers.Provider[Any]] = container.providers
    return {name: provider for name, provider in found.items() if name not in left_out}


@pytest.mark.parametrize("settings", [{}, JWT, REDIS], ids=["open", "jwt", "redis"])
async def test_everything_resolves_and_only_once(settings: dict[str, Any]) -> None:
    container = build_container(Settings(**settings))
    for name, provider in provided(container).items():
        assert provider() is provider(), name


async def test_the_connections_to_redis_are_kept_by_the_node_that_uses_them() -> None:
    container = build_container(Settings(**REDIS))
    lag = container.loop_lag()
    assert container.beneath() == [container.store(), container.channels(), lag]
    container = build_container(Settings())
    assert container.beneath() == [container.loop_lag()]


async def test_the_backend_is_a_setting() -> None:
    container = build_container(Settings())
    assert isinstance(container.broker(), MemoryBroker)
    assert isinstance(container.presence(), MemoryPresence)
    container = build_container(Settings(**REDIS))
    assert isinstance(container.broker(), RedisBroker)
    assert isinstance(container.presence(), RedisPresence)


async def test_two_containers_share_nothing() -> None:
    one, other = build_container(Settings()), build_container(Settings())
    for name, provider in provided(one).items():
        if isinstance(provider, providers.Object):
            continue
        assert provider() is not getattr(other, name)(), name


def test_a_container_without_settings_is_refused() -> None:
    with pytest.raises(errors.Error, match="settings"):
        Container().check_dependencies()


def test_a_redis_address_that_cannot_be_read_is_told_without_its_password() -> None:
    container = build_container(Settings(**{**REDIS, "redis_url": "redis://:canary@host:port"}))
    with pytest.raises(SettingsError, match="HUBBUB_REDIS_URL") as told:
        container.store()
    assert "canary" not in str(told.value)


async def test_tokens_are_checked_with_the_configured_key(tmp_path: Path) -> None:
    authenticator = build_container(Settings(**JWT)).authenticator()
    assert (await authenticator.authenticate(token("ann"))).user == "ann"

    key = ed25519.Ed25519PrivateKey.generate().public_key()
    file = tmp_path / "key.pem"
    file.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    authenticator = build_container(Settings(**jwt_with(file))).authenticator()
    with pytest.raises(TokenInvalid):
        await authenticator.authenticate(token("ann"))


def test_a_key_file_that_holds_no_key_is_told(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("not a key")
    container = build_container(Settings(**jwt_with(file)))
    with pytest.raises(SettingsError, match="HUBBUB_AUTH__PUBLIC_KEY_FILE"):
        container.authenticator()


async def test_without_a_key_one_is_made_for_the_run() -> None:
    one, other = build_container(Settings()), build_container(Settings())
    secrets = {container.settings().auth.hmac_bytes for container in (one, other)}
    assert None not in secrets
    assert len(secrets) == 2
    for container in (one, other):
        with pytest.raises(TokenInvalid):
            await container.authenticator().authenticate(token("ann"))
