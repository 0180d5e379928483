"""The composition root: the only file that names adapters.

Swapping an adapter is one setting: each swappable port has a Selector keyed by it. Everything is
built synchronously and once; lifetimes belong to the node, not to the container.
"""

import re
import secrets
import socket
from collections.abc import Mapping

from dependency_injector import containers, providers

from adapters.memory.broker import MemoryBroker
from adapters.memory.control import MemoryControl
from adapters.memory.directory import MemoryDirectory
from adapters.memory.presence import MemoryPresence
from adapters.prometheus_metrics import PrometheusMetrics
from adapters.redis.addresses import BadUrl
from adapters.redis.broker import RedisBroker
from adapters.redis.channels import Channels
from adapters.redis.control import RedisControl
from adapters.redis.directory import RedisDirectory
from adapters.redis.keyspace import Keyspace
from adapters.redis.presence import RedisPresence
from adapters.redis.store import Store
from adapters.tokens.authenticator import JwtAuthenticator
from adapters.tokens.keys import KeyUnusable, VerificationKey, hmac_key, load_public_key
from adapters.tokens.remote_keys import RemoteKeys
from adapters.transport.asgi import AsgiTransport
from adapters.transport.lane import LaneTransport, Turn
from adapters.transport.streams import StreamOpener
from adapters.transport.uvicorn_http import GuardedHttpProtocol
from adapters.transport.uvicorn_ws import EXTENSION, LaneProtocol
from application.carry_out import CarryOut
from application.close_session import CloseSession
from application.describe_room import DescribeRoom
from application.drain import Drain
from application.give_order import GiveOrder
from application.hub import Hub
from application.join_room import JoinRoom
from application.leave_room import LeaveRoom
from application.list_members import ListMembers
from application.list_rooms import ListRooms
from application.list_sessions import ListSessions
from application.loop_lag import LoopLag
from application.measures import MEASURES, Measure, local
from application.node import Node, Running
from application.open_session import OpenSession
from application.ports.metrics import Metrics
from application.ports.transport import Transport
from application.publish_message import PublishMessage
from application.read_history import ReadHistory
from application.refresh_token import RefreshToken
from application.report_figures import ReportFigures
from application.requests import RequestRates
from application.session import SessionLimits
from domain.exclusions import Exclusions
from domain.origins import OriginPolicy
from domain.timeline import MAX_PAGE_BYTES
from entrypoints.bind import is_loopback
from entrypoints.http.api.callers import Callers, KeyRing
from entrypoints.http.events import OpenStream
from entrypoints.settings import AuthSettings, Settings, SettingsError
from entrypoints.settings_sections import host_of
from entrypoints.ws.admission import Admission, ConnectionLimits
from entrypoints.ws.connection import OpenTransport
from entrypoints.ws.credentials import Scope
from entrypoints.ws.inbox import Receive, Send


def _store(settings: Settings) -> Store:
    url = settings.redis_url
    try:
        where = "" if url is None else url.get_secret_value()
        return Store(where, replicas=settings.redis_replicas)
    except BadUrl as error:
        raise SettingsError(f"HUBBUB_REDIS_URL: {error}") from None


def _measures(settings: Settings) -> Mapping[str, Measure]:
    return local() if settings.backend == "memory" else MEASURES


def _verification_keys(auth: AuthSettings) -> list[VerificationKey]:
    keys = []
    if auth.hmac_bytes is not None:
        keys.append(hmac_key(auth.hmac_bytes))
    if auth.public_key_file is not None:
        try:
            keys.append(load_public_key(auth.public_key_file))
        except KeyUnusable as error:
            raise SettingsError(f"HUBBUB_AUTH__PUBLIC_KEY_FILE: {error}") from None
    return keys


def _remote_keys(auth: AuthSettings, metrics: Metrics) -> RemoteKeys | None:
    if auth.jwks_url is None:
        return None
    return RemoteKeys(auth.jwks_url, metrics, local=is_loopback(host_of(auth.jwks_url)))


def _session_limits(settings: Settings) -> SessionLimits:
    limits = settings.limits
    return SessionLimits(
        rooms=limits.rooms_per_connection,
        page_bytes=min(MAX_PAGE_BYTES, limits.outbox_bytes // 2),
        messages_per_second=limits.messages_per_second,
        messages_burst=limits.messages_burst,
        commands_per_second=limits.commands_per_second,
        commands_burst=limits.commands_burst,
        ping_interval=settings.ping_interval,
        ping_timeout=settings.ping_timeout,
        sessions_per_user=limits.connections_per_user,
        outbox_bytes=limits.outbox_bytes,
    )


def _request_rates(settings: Settings, metrics: Metrics) -> RequestRates:
    limits = settings.limits
    return RequestRates(
        metrics,
        messages=(limits.messages_per_second, limits.messages_burst),
        commands=(limits.commands_per_second, limits.commands_burst),
    )


def _transport_opener(settings: Settings) -> OpenTransport:
    limit, turn = settings.limits.outbox_bytes, Turn()

    def open_transport(scope: Scope, receive: Receive, send: Send) -> Transport:
        found = (scope.get("extensions") or {}).get(EXTENSION)
        if found is None:
            return AsgiTransport(receive, send, limit)
        return LaneTransport(found["lane"], turn, limit)

    return open_transport


def _stream_opener(settings: Settings) -> OpenStream:
    silence = settings.ping_interval + settings.ping_timeout
    return StreamOpener(settings.limits.outbox_bytes, silence)


def _admission(settings: Settings) -> Admission:
    limits = settings.limits
    return Admission(
        ConnectionLimits(
            total=limits.connections,
            per_address=limits.connections_per_address,
            unknown=limits.unauthenticated,
            per_second=limits.handshakes_per_second,
            burst=limits.handshakes_burst,
        )
    )


def _origin_policy(settings: Settings) -> OriginPolicy:
    is_open = settings.auth.mode == "open"
    # Where tokens are asked for, a page that came by a made-up name has none to show.
    local = is_open and is_loopback(settings.host)
    return OriginPolicy(settings.origins, loopback=is_open, local=local)


def _key_ring(settings: Settings) -> KeyRing:
    return KeyRing(settings.backends())


def _beside(settings: Settings, figures: ReportFigures) -> list[Running]:
    """The dashboard is a page, so its figures come and go with the pages."""
    return [figures] if settings.show_pages else []


def _node_name() -> str:
    """Another for each start: what a node left behind must not be taken for its own."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:32]
    return f"{host}-{secrets.token_hex(4)}"


class Container(containers.DeclarativeContainer):
    settings = providers.Dependency(instance_of=Settings)

    catalog = providers.Singleton(lambda settings: settings.catalog(), settings)
    origins = providers.Singleton(_origin_policy, settings)
    limits = providers.Singleton(_session_limits, settings)

    node_name = providers.Singleton(_node_name)

    # Redis, when it is the backend
    store = providers.Singleton(_store, settings)
    channels = providers.Singleton(Channels, store)
    keyspace = providers.Singleton(Keyspace)

    # Ports
    metrics = providers.Singleton(
        PrometheusMetrics, node_name, providers.Callable(_measures, settings)
    )
    loop_lag = providers.Singleton(LoopLag, metrics)
    broker = providers.Selector(
        settings.provided.backend,
        memory=providers.Singleton(MemoryBroker, max_bytes=settings.provided.limits.history_bytes),
        redis=providers.Singleton(
            RedisBroker,
            store,
            channels,
            metrics,
            keyspace,
            max_bytes=settings.provided.limits.history_bytes,
        ),
    )
    redis_presence = providers.Singleton(
        RedisPresence,
        store,
        channels,
        metrics,
        keyspace,
        grace=settings.provided.presence_grace,
    )
    presence = providers.Selector(
        settings.provided.backend,
        memory=providers.Singleton(MemoryPresence, settings.provided.presence_grace),
        redis=redis_presence,
    )
    directory = providers.Selector(
        settings.provided.backend,
        memory=providers.Singleton(MemoryDirectory),
        redis=providers.Singleton(RedisDirectory, store, redis_presence.provided.lease),
    )
    control = providers.Selector(
        settings.provided.backend,
        memory=providers.Singleton(MemoryControl),
        redis=providers.Singleton(RedisControl, store, channels),
    )
    beneath = providers.Selector(
        settings.provided.backend,
        memory=providers.List(loop_lag),
        redis=providers.List(store, channels, loop_lag),
    )
    authenticator = providers.Singleton(
        JwtAuthenticator,
        providers.Callable(_verification_keys, settings.provided.auth),
        more=providers.Callable(_remote_keys, settings.provided.auth, metrics),
        issuer=settings.provided.auth.issuer,
        audience=settings.provided.auth.audience,
    )
    admission = providers.Singleton(_admission, settings)
    open_transport = providers.Singleton(_transport_opener, settings)
    open_stream = providers.Singleton(_stream_opener, settings)
    http_protocol = providers.Object(GuardedHttpProtocol)
    websocket_protocol = providers.Object(LaneProtocol)

    # Application
    hub = providers.Singleton(
        Hub,
        broker,
        presence,
        directory,
        metrics,
        max_rooms=settings.provided.limits.rooms,
    )
    leave_room = providers.Singleton(LeaveRoom, hub, presence)
    exclusions = providers.Singleton(Exclusions)
    carry_out = providers.Singleton(CarryOut, hub, leave_room, exclusions, metrics)
    join_room = providers.Singleton(JoinRoom, hub, presence, catalog, metrics)
    request_rates = providers.Singleton(_request_rates, settings, metrics)
    publish_message = providers.Singleton(
        PublishMessage, hub, broker, presence, catalog, metrics, request_rates
    )
    report_figures = providers.Singleton(ReportFigures, hub, publish_message, metrics, node_name)
    beside = providers.Singleton(_beside, settings, report_figures)
    node = providers.Singleton(
        Node,
        broker,
        presence,
        control,
        directory,
        authenticator,
        hub,
        carry_out,
        beneath,
        beside,
    )
    read_history = providers.Singleton(ReadHistory, broker, catalog)
    list_members = providers.Singleton(ListMembers, presence, catalog)
    list_rooms = providers.Singleton(ListRooms, directory, presence, catalog)
    list_sessions = providers.Singleton(ListSessions, hub)
    describe_room = providers.Singleton(DescribeRoom, catalog)
    give_order = providers.Singleton(GiveOrder, control)
    refresh_token = providers.Singleton(
        RefreshToken, authenticator, presence, leave_room, exclusions
    )
    key_ring = providers.Singleton(_key_ring, settings)
    callers = providers.Singleton(
        Callers,
        key_ring,
        authenticator,
        exclusions,
        anonymous=settings.provided.api_open,
    )
    close_session = providers.Singleton(CloseSession, hub, leave_room, metrics)
    open_session = providers.Singleton(OpenSession, hub, close_session, metrics, limits)
    drain = providers.Singleton(Drain, hub)
