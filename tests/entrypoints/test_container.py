"""The composition root: everything resolves, once, for every configuration there is."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dependency_injector import errors, providers

from adapters.memory.broker import MemoryBroker
from adapters.memory.presence import MemoryPresence
from domain.errors import TokenInvalid
from entrypoints.asgi import build_container
from entrypoints.container import Container
from entrypoints.settings import Settings, SettingsError
from tests.tokens import JWT, token


def jwt_with(key_file: Path) -> dict[str, Any]:
    return {"auth": {"mode": "jwt", "public_key_file": key_file}}


def provided(container: Container) -> dict[str, providers.Provider[Any]]:
    return {name: provider for name, provider in container.providers.items() if name != "settings"}


@pytest.mark.parametrize("settings", [{}, JWT], ids=["open", "jwt"])
async def test_everything_resolves_and_only_once(settings: dict[str, Any]) -> None:
    container = build_container(Settings(**settings))
    for name, provider in provided(container).items():
        assert provider() is provider(), name


async def test_the_backend_is_a_setting() -> None:
    container = build_container(Settings())
    assert isinstance(container.broker(), MemoryBroker)
    assert isinstance(container.presence(), MemoryPresence)


async def test_two_containers_share_nothing() -> None:
    one, other = build_container(Settings()), build_container(Settings())
    for name, provider in provided(one).items():
        if isinstance(provider, providers.Object):
            continue
        assert provider() is not getattr(other, name)(), name


def test_a_container_without_settings_is_refused() -> None:
    with pytest.raises(errors.Error, match="settings"):
        Container().check_dependencies()


def test_a_backend_that_is_not_there_yet_is_told() -> None:
    given: dict[str, Any] = {"backend": "redis", "redis_url": "redis://127.0.0.1"}
    container = build_container(Settings(**given))
    with pytest.raises(SettingsError, match="HUBBUB_BACKEND"):
        container.broker()


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
