"""A secure sum over TCP (add TLS in earnest) against a server nobody has to trust; one of four sites vanishes."""

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

import numpy as np

import secagg
from secagg.identity import Card, Identity, Roster

identities = {name: Identity.generate() for name in ("basel", "bergen", "brno", "budapest")}
roster = Roster.found("Demo", [Card.issue(key, name) for name, key in identities.items()], builder=Identity.generate())

codec = secagg.Encoding(dimension=3, clip=1.0, bits=16, clients=4)  # and for every round, what all agree on:
plan = secagg.plan(codec, dropout=0.25, corrupted=0.0, server="malicious")
setup = secagg.Setup(plan=plan, roster=roster, session=secagg.new_session(), round=0)


async def _send(writer: StreamWriter, frame: bytes) -> None:
    writer.write(len(frame).to_bytes(4, "big") + frame)
    await writer.drain()


async def _receive(reader: StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


async def _site(name: str, port: int, answers: int) -> None:
    client = secagg.Client(setup, name, codec.encode(np.full(3, 0.2)), identity=identities[name])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _send(writer, name.encode())
    for _ in range(answers):
        await _send(writer, client.receive(await _receive(reader)))
    writer.close()


async def _serve(arrivals: asyncio.Queue[tuple[StreamReader, StreamWriter]]) -> secagg.Total:
    connections = {(await _receive(pair[0])).decode(): pair for pair in [await arrivals.get() for _ in identities]}
    server = secagg.Server(setup)
    while outbox := server.close_round():  # whoever does not answer in time has dropped out
        for name, request in outbox.items():
            with suppress(asyncio.IncompleteReadError, TimeoutError, ConnectionError):
                await _send(connections[str(name)][1], request)
                server.receive(name, await asyncio.wait_for(_receive(connections[str(name)][0]), timeout=5))
    return server.total()


async def _main() -> None:
    arrivals: asyncio.Queue[tuple[StreamReader, StreamWriter]] = asyncio.Queue()
    listening = await asyncio.start_server(lambda *pair: arrivals.put_nowait(pair), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening, asyncio.TaskGroup() as sites:
        for name in identities:
            sites.create_task(_site(name, port, answers=2 if name == "brno" else 5))
        total = await _serve(arrivals)
    print("in the sum:", *total.survivors, "  mean:", codec.decode(total).round(3))


asyncio.run(_main())
