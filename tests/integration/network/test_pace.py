"""Threads that meet 429 on a real socket slow down together."""

import threading
from concurrent.futures import ThreadPoolExecutor

from ci_registry.network.message import Request
from ci_registry.registry_server.options import Answer, Fault
from tests.support.registry import running_registry
from tests.support.remote import QuickCancel, quick_client

THREADS = 8


def test_after_a_429_the_requests_of_all_threads_wait_for_one_another() -> None:
    fault = Fault(
        action=Answer(status=429, headers=(("Retry-After", "7"),)), method="GET", times=THREADS
    )
    cancel = QuickCancel()
    together = threading.Barrier(THREADS)
    with running_registry(faults=[fault]) as registry, quick_client(cancel=cancel) as client:

        def ask(_: int) -> int:
            together.wait(20)
            return client.request(Request(method="GET", url=f"{registry.url}/v2/")).status

        with ThreadPoolExecutor(THREADS) as pool:
            assert set(pool.map(ask, range(THREADS))) == {200}
        limit = client._paces.of(registry.host).limit
        assert registry.count("GET") == 2 * THREADS
    assert 0 < limit <= THREADS
    assert len([s for s in cancel.slept if s >= 6]) <= THREADS
