"""SecAgg and SecAgg+ (Bonawitz et al. 2017; Bell et al. 2020), semi-honest server, as pure steps.

Rounds `advertise_keys, share_keys, masked_input, unmask`; a complete graph and a random k-regular one are the same
code. What the server learns: the sum over the clients whose masked input arrived, and who they are. Assumption: the
server follows the protocol; the server and all corrupted clients together hold fewer than t shares of any honest
client's secrets, and the honest survivors' graph is connected (`secagg.plan` states the odds).
"""
