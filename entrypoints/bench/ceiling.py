"""How many deliveries a second the Python load generator could take in at most.

Another process writes messages to connections as fast as they are read, so that nothing but the
generator is measured. A server may be faster than that; then its speed is not known.
"""

import asyncio
import os
import socket
import sys
import time
from asyncio.subprocess import DEVNULL

from entrypoints.bench.member import Member
from entrypoints.bench.plan import Plan
from entrypoints.bench.tally import Account, Failure, Tally

_CONNECTIONS = 100  # more would not be slower
_SECONDS = 0.5
_DEADLINE = 10.0
