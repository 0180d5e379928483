"""What runs take place on. The fewer there are, the more rows share one."""

from dataclasses import replace

from tests.chaos.system import Setting

_QUICK = (
    ("HUBBUB_PING_INTERVAL", "3"),
    ("HUBBUB_PING_TIMEOUT", "2"),
    ("HUBBUB_DRAIN_WINDOW", "4"),
    ("HUBBUB_LIMITS__OUTBOX_BYTES", "262144"),
)

COMMON = Setting(nodes=3, proxied=True, doors=True, environ=_QUICK)
PLAIN = Setting(nodes=2, environ=(("HUBBUB_DRAIN_WINDOW", "4"),))
ROLLING = Setting(nodes=3, environ=_QUICK)
PERSISTENT = Setting(
    nodes=2,
    redis=("appendonly yes", "appendfsync everysec", "auto-aof-rewrite-percentage 0"),
    environ=_QUICK,
)
SENTINEL = Setting("sentinel", nodes=2, environ=_QUICK)
REPLICATED = replace(SENTINEL, environ=(*_QUICK, ("HUBBUB_REDIS_REPLICAS", "1")))
# The nodes have a user of their own, so that everybody else can be shut out.
USER, PASSWORD = "nodes", "of-nodes-only"
SPLIT = Setting(
    "sentinel",
    nodes=2,
    redis=(f"user {USER} on >{PASSWORD} ~* &* +@all",),
    login=f"{USER}:{PASSWORD}@",
    environ=_QUICK,
)
CLUSTER = Setting("cluster", nodes=2, environ=_QUICK)
# So that a buffer which takes a megabyte overflows without one.
BUFFER = Setting(nodes=2, proxied=True, entry=("tests.chaos.without", "small-buffer"))
