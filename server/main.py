"""``pantau ingest``: the service. Connects, works, and connects again."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import random
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from agent.wire import PREFIX
from server import config, deadman, mqtt, notify, payloads
from server.config import Config, ConfigError
from server.ingest import Ingest
from server.resend import Holes
from server.session import Session
from server.store import Store, StoreError, open_store

_TOPICS = (
    f"{PREFIX}/sites/+/readings",
    f"{PREFIX}/sites/+/presence",
    f"{PREFIX}/sites/+/replies",
    payloads.MARKER,
)
_FIRST_DELAY_S = 1.0
_MOST_DELAY_S = 15.0
_FAREWELL_S = 2.0
_WORKS_S = 5.0
"""A tick, four of which make a second, that is older than this: something does not work."""
_USER = "_ingest"

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Run the service until SIGTERM or SIGINT; gives the exit code.

    With ``--check`` only its configuration is read, and nothing is opened.

    Raises:
        ConfigError: the configuration, or at the first login the broker, says
            that somebody has to change something first.
        StoreError: the database cannot be opened.
    """
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    settings = config.load(args.config)
    if args.check:
        print(f"{args.config}: can be used")
        return 0
    return asyncio.run(Service(settings).run())


def _spare_collector() -> None:
    """Collect garbage seldom, and never look at what stays for good.

    A batch makes thousands of objects that hold no cycles; looking for cycles among
    them and in the memory of 9,000 sites cost a tenth of ingest's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def last_alive(store: Store, now: float) -> float:
    """When ingest last said that it lives, before this start; a first start says so as of `now`.

    For it may end before its first tick, and what it heard until then would be judged by the
    next as though nobody had been away.
    """
    said_at = store.alive_at()
    if said_at is not None:
        return said_at
    with store.transaction():
        store.set_alive_at(now)
    return now


class Service:
    """Ingest with its store, over all its connections."""

    def __init__(self, settings: Config) -> None:
        self._settings = settings
        self._store = open_store(settings.store.url)
        self._ingest = Ingest(
            self._store, settings.health, settings.alerts.resolved_retain_s, settings.groups
        )
        self._ingest.sees(caught_up=False)
        self._ingest.refresh_registry(time.time())
        _spare_collector()
        self._blind_since = last_alive(self._store, time.time())
        self._holes = Holes()
        for row in self._store.holed_streams():  # left by the process before this one
            self._holes.note(row.site, row.stream, row.seqs.gap(), time.monotonic())
        self._said = ""
        self._stop = asyncio.Event()
        self._connected = False
        self._session: Session | None = None
        self._caller = deadman.Caller(settings.deadman, self._works)

    def _works(self) -> bool:
        """Whether we hear, judge and store, just now."""
        session = self._session
        return session is not None and time.monotonic() - session.ticked_at < _WORKS_S

    async def run(self) -> int:
        """Work until told to stop."""
        work = asyncio.ensure_future(self._work())
        loop = asyncio.get_running_loop()

        def stop() -> None:
            self._stop.set()
            if not self._connected:  # a session ends by itself, with a farewell
                work.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        notify.systemd("READY=1")
        self._caller.start()
        try:
            await work
        except asyncio.CancelledError:
            pass
        finally:
            notify.systemd("STOPPING=1")
            self._store.close()
        return 0

    async def _work(self) -> None:
        delay_s = _FIRST_DELAY_S
        with ThreadPoolExecutor(1, "store") as worker:
            while not self._stop.is_set():
                began_at = time.time()
                notify.systemd("WATCHDOG=1")  # a broker that is away is no fault of ours
                try:
                    await self._connection(worker)
                except mqtt.Refused as err:
                    if err.permanent and not self._said:
                        raise ConfigError(str(err)) from None
                    self._say(str(err))
                except mqtt.Lost as err:
                    self._say(str(err))
                else:
                    return
                if time.time() - began_at > _MOST_DELAY_S:
                    delay_s = _FIRST_DELAY_S
                await asyncio.sleep(random.uniform(0, delay_s))  # noqa: S311  # jitter
                delay_s = min(2 * delay_s, _MOST_DELAY_S)

    def _say(self, text: str) -> None:
        if text != self._said:
            log.warning("%s; trying again", text)
        self._said = text
        notify.systemd(f"STATUS={text}")

    async def _connection(self, worker: ThreadPoolExecutor) -> None:
        user = self._settings.mqtt.username or _USER
        will = mqtt.Will(*payloads.service(payloads.INGEST, "offline", time.time()))
        async with mqtt.connect(self._settings.mqtt, user, will, _TOPICS) as link:
            session = Session(link, self._ingest, worker, self._holes, self._blind_since)
            log.info("connected to %s", self._settings.mqtt.url)
            self._said = "connected"
            notify.systemd("STATUS=connected")
            self._connected = True
            self._session = session
            try:
                await session.run(self._stop)
                await self._farewell(link)
            finally:
                self._connected = False
                self._session = None
                if session.proven_at:
                    self._blind_since = session.proven_at

    async def _farewell(self, link: mqtt.Connection) -> None:
        """Say that we end on purpose, so that the will need not."""
        topic, payload = payloads.service(payloads.INGEST, "offline", time.time())
        link.publish(topic, payload, retain=True)
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await link.published()
        except (TimeoutError, mqtt.Lost):
            return


__all__ = ["ConfigError", "Service", "StoreError", "run"]
