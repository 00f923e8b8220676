"""One secure sum with live sessions: what an application does that brings its own transport.

Three hospitals and a server, each holding only its own object; bytes go back and forth.
Run: python examples/live_round.py
"""

from __future__ import annotations

import numpy as np

import secagg

# Agreed beforehand by everybody, out of band: the encoding, the plan, who takes part, and a fresh session id.
codec = secagg.Encoding(dimension=4, clip=1.0, bits=16, clients=3, max_weight=500)
plan = secagg.plan(codec, dropout=0.0)
setup = secagg.Setup(
    plan=plan,
    roster=["basel", "bergen", "budapest"],
    session=secagg.new_session(),
    round=0,
    assume_honest_server=True,  # without identities, the server is trusted to follow the protocol
)

# At each hospital: an update and how many patients stand behind it. Both stay hidden.
updates = {
    "basel": (np.array([0.5, -0.25, 0.0, 0.125]), 120),
    "bergen": (np.array([0.1, 0.2, 0.3, 0.4]), 340),
    "budapest": (np.array([-0.5, 0.5, -0.5, 0.5]), 75),
}
hospitals: dict[secagg.ClientId, secagg.Client] = {
    name: secagg.Client(setup, name, codec.encode(x, weight=patients)) for name, (x, patients) in updates.items()
}

# At the server: close a round, send what it returns, hand in what comes back, until there is nothing more to send.
server = secagg.Server(setup)
while outbox := server.close_round():
    for name, request in outbox.items():
        answer = hospitals[name].receive(request)
        server.receive(name, answer)

total = server.total()
print("in the sum:", ", ".join(map(str, total.survivors)))
print("patients:  ", codec.decode_sum(total).weight)
print("mean:      ", codec.decode(total).round(3))
