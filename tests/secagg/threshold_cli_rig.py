"""Four sites that set a threshold key up by `secagg threshold`, in the folder that they are in."""

from pathlib import Path

from tests.secagg.cli_rig import done

SITES = ("Basel", "Bern", "Genf", "Zug")
SERVERS = ("malicious", "semi-honest")
TRUST = {"malicious": "", "semi-honest": "--assume-honest-server"}


def answer(site: str, out: str, message: str = "", *, trust: str = "", key: str = "") -> str:
    low = site.lower()
    files = f"--identity {low}.key --key {key or low + '.threshold'} --out {out}"
    return f"threshold answer heart.agreement {message} --roster heart.roster {files} {trust}"


def relay(out: str, *answers: str, trust: str = "") -> str:
    return f"threshold relay heart.agreement {' '.join(answers)} --roster heart.roster --out {out} {trust}"


def answers_of(*rounds: int) -> list[str]:
    return [f"{site.lower()}.{number}" for number in rounds for site in SITES]


def agree(server: str) -> str:
    """Make identities, a roster and an agreement in this folder."""
    for site in SITES:
        done(f"keys new --out {site.lower()}.key --name {site}")
    cards = [f"{site.lower()}.key.pub" for site in SITES]
    done("roster build --name Heart --key basel.key --out heart.roster", *cards)
    printed = done(f"plan -n 4 -d 6 --corrupted 0 --masking threshold --json --server {server}")
    Path("plan.json").write_text(printed)
    return done("threshold propose --plan plan.json --roster heart.roster --out heart.agreement " + TRUST[server])


def set_up(server: str) -> list[str]:
    """Set a key up by files alone; return all that was printed."""
    trust, said = TRUST[server], [agree(server)]
    said += [done(answer(site, f"{site.lower()}.1", trust=trust)) for site in SITES]
    for number in (2, 3):
        folder = f"to-{number}"
        said.append(done(relay(folder, *answers_of(*range(1, number)), trust=trust)))
        for place, site in enumerate(SITES):
            message = f"{folder}/{place:02}-{site}.message"
            said.append(done(answer(site, f"{site.lower()}.{number}", message, trust=trust)))
    said.append(done(relay("done", *answers_of(1, 2, 3), trust=trust)))
    return said
