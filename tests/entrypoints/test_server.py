import signal
import pytest
from tests.conftest import Serve, ServeProcess
from tests.peer import Peer

async def test_x(serve: Serve) -> None:
    server = await serve()
    ann, joined = await server.member("ann", "r")
    assert await ann.is_quiet()

async def test_p(serve_process: ServeProcess) -> None:
    p = await serve_process()
    ann = await Peer.connect(p.ws_url+"/ws")
    p.signal(signal.SIGTERM)
    assert (await ann.closed())[0] == 1012
    assert await p.ended() == 0
    print(p.stderr)
