"""What the script stands on: waiting with a limit, and subscriptions that keep what they receive."""

import asyncio
import inspect
import sys

import loop_shim  # noqa: F401  (before the clients)
from nats.aio.client import Client as Nats
from stan.aio.client import Client as Stan

LIMIT_SECONDS = 30

URL, CLUSTER_ID = sys.argv[1:3]

# Clients of protocol 0 send no pings, and have no options about them.
SENDS_PINGS = "ping_interval" in inspect.signature(Stan.connect).parameters


def done(step):
    print(step, flush=True)


async def within(what, awaitable):
    try:
        return await asyncio.wait_for(awaitable, LIMIT_SECONDS)
    except asyncio.TimeoutError:
        raise AssertionError(f"waited {LIMIT_SECONDS} s in vain: {what}") from None


class Application:
    """One client on a NATS connection of its own, and whatever would tell it that a connection was lost."""

    async def connect(self, client_id, **pings):
        options = {"conn_lost_cb": self._lose, **pings} if SENDS_PINGS else {}
        loop = asyncio.get_running_loop()
        self.troubles = []
        self.lost = loop.create_future()
        self.nats = Nats()
        await self.nats.connect(
            URL,
            io_loop=loop,
            disconnected_cb=self._note("disconnected"),
            reconnected_cb=self._note("reconnected"),
            closed_cb=self._note("closed"),
            error_cb=self._note("error"),
        )
        self.stan = Stan()
        await within("connecting", self.stan.connect(
            CLUSTER_ID, client_id, nats=self.nats, **options))
        return self

    def _note(self, what):
        async def note(*details):
            self.troubles.append((what, *details))
        return note

    async def _lose(self, reason):
        self.troubles.append(("lost", reason))
        self.lost.set_result(reason)

    async def publish(self, channel, text):
        ack = await within(f"the ack of {text}", self.stan.publish(channel, text.encode()))
        assert ack.error == "", ack.error

    async def publish_all(self, channel, count):
        for number in range(1, count + 1):
            await self.publish(channel, f"{channel} {number}")

    async def subscribe(self, channel, use=None, **options):
        received = Received()

        async def keep(message):
            received.messages.append(message)
            if use is not None:
                await use(message)
            received.more.set()

        received.subscription = await within(
            f"subscribing to {channel}", self.stan.subscribe(channel, cb=keep, **options))
        return received

    async def close(self):
        await within("closing", self.stan.close())
        await self.nats.close()


class Received:
    def __init__(self):
        self.messages = []
        self.more = asyncio.Event()

    def sequences(self):
        return [message.sequence for message in self.messages]

    def texts(self):
        return [message.data.decode() for message in self.messages]

    async def until(self, what, condition):
        async def look():
            while not condition(self.messages):
                self.more.clear()
                await self.more.wait()
        await within(what, look())

    async def at_least(self, count):
        await self.until(f"{count} messages", lambda messages: len(messages) >= count)

    async def unsubscribe(self):
        await within("unsubscribing", self.subscription.unsubscribe())

    async def close(self):
        await within("closing a subscription", self.subscription.close())


async def ask(what, answer):
    """Asks the test for something, and waits until it says that it is done."""
    done(f"? {what}")
    told = await within(what, asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline))
    assert told.strip() == answer, told


async def refusal(awaitable):
    try:
        await awaitable
    except Exception as error:
        return error
    raise AssertionError("it is accepted")
