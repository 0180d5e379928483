"""The load generator for where there is no C compiler, or TLS: `python -m` this, a plan as JSON.

It costs many times what the compiled one does, so it first measures what it could take in at most:
a server may be faster than that, and then its speed is not known.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE

import msgspec

from entrypoints.bench.costs import NoSuchProcess
from entrypoints.bench.load import Load
from entrypoints.bench.plan import Ceiling, Event, Failed, Phase, Plan
from entrypoints.bench.tally import Failure

_CEILING_CONNECTIONS = 100  # more would not be faster
_CEILING_SECONDS = 0.3


async def ceiling(plan: Plan) -> float:
    """Deliveries a second of the same pattern, where the server is the least there can be."""
    connections = min(plan.connections, _CEILING_CONNECTIONS)
    floor = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "entrypoints.bench.floor", str(connections), stdout=PIPE
    )
    assert floor.stdout is not None
    phases: list[Phase] = []

    def listen(event: Event) -> None:
        if isinstance(event, Phase) and event.phase == "measure":
            phases.append(event)

    try:
        test = Plan(
            port=int(await floor.stdout.readline()),
            connections=connections,
            parallel=1,  # the first to publish must be the first to connect
            publish='{"text":"%m"}',
            seconds=_CEILING_SECONDS,
            window=plan.window,
        )
        await Load(test, None, listen).run()
    finally:
        if floor.returncode is None:
            floor.kill()
        await floor.wait()
    return phases[0].count / phases[0].seconds


def _tell(event: Event) -> None:
    print(msgspec.json.encode(event).decode(), flush=True)  # noqa: T201


async def _main(plan: Plan) -> int:
    try:
        if (plan.messages or plan.seconds) and not plan.rate:
            _tell(Ceiling(await ceiling(plan)))
        # Not in the plan, which everybody on the machine can read in the list of processes.
        await Load(plan, os.environ.get("BENCH_AUTHORIZATION"), _tell).run()
    except (Failure, NoSuchProcess) as failure:
        _tell(Failed(str(failure)))
        return 1
    return 0


def _raise_file_limit() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        from uvloop import new_event_loop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return new_event_loop()


def _run(plan: Plan) -> int:
    _raise_file_limit()
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(_main(plan))


if __name__ == "__main__":
    sys.exit(_run(msgspec.json.decode(sys.argv[1], type=Plan)))
