"""Running a contest: everyone takes a turn, in another order each round."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from statistics import median
from time import perf_counter, sleep

from .machine import free_memory
from .peer import Contest, Peer
from .worker import PeerError, Turn, Worker

TURN = Turn(seconds=0.03, most=50)
REST = 0.005  # seconds between turns, in which the threads of the last one stop spinning
SHARE = 3.0  # seconds after which a slow peer takes no more turns
LEAST = 3  # turns that it takes at least
SHARE_OF_MEMORY = 0.8


@dataclass
class Score:
    """How a peer fared: seconds of a step in each round, and the ratio to the reference's."""

    peer: Peer
    note: str = ""
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    failure: str = ""


@dataclass
class Racer:
    """A peer that is ready."""

    score: Score
    worker: Worker
    spent: float = 0.0
    turns: int = 0

    def turn(self) -> float:
        """Take a turn; return the median of its steps."""
        start = perf_counter()
        times = self.worker.ask(TURN)
        self.spent += perf_counter() - start
        self.turns += 1
        sleep(REST)
        return float(median(times))

    def over(self, repeats: int) -> bool:
        """Whether it has had its turns."""
        return self.turns >= repeats or (self.turns >= LEAST and self.spent > SHARE)


class Race:
    """Contests in one run; a peer's process lives on from one to the next."""

    def __init__(self, repeats: int) -> None:
        self._repeats = repeats
        self._workers: dict[str, Worker] = {}
        self._random = random.Random(0)

    def __enter__(self) -> Race:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        for worker in self._workers.values():
            worker.close()

    def run(self, contest: Contest) -> list[Score]:
        """Run a contest, in as many heats as memory asks for; the reference runs in each."""
        scores = {peer.name: Score(peer, failure=_lacking(peer)) for peer in contest.peers}
        present = [peer for peer in contest.peers if not scores[peer.name].failure]
        for heat in _heats(contest, present):
            say(f"{contest.heading}: {', '.join(peer.name for peer in heat)}")
            racers = self._ready(contest, [scores[peer.name] for peer in heat])
            self._rounds(racers)
            for racer in racers:
                if not racer.score.failure:
                    racer.worker.ask(None)
        return list(scores.values())

    def _ready(self, contest: Contest, scores: Sequence[Score]) -> list[Racer]:
        """Make all ready at once: compilers may take long, and use one core each."""
        racers, asked = [], []
        for score in scores:
            name = score.peer.name
            worker = self._workers.get(name) or Worker(score.peer)
            self._workers[name] = worker
            worker.send(contest.task(score.peer))
            asked.append(Racer(score, worker))
        for racer in asked:
            try:
                racer.score.note = racer.worker.receive()
                racers.append(racer)
            except PeerError as error:
                self._leave_out(racer.score, error)
        if not racers or racers[0].score is not scores[0]:
            raise SystemExit(f"{contest.heading}: {scores[0].peer.label}: {scores[0].failure}")
        return racers

    def _rounds(self, racers: Sequence[Racer]) -> None:
        reference, *others = racers
        while others or not reference.over(self._repeats):
            turns = [reference, *others]
            self._random.shuffle(turns)
            found = [(racer, seconds) for racer in turns if (seconds := self._turn(racer))]
            own = next(seconds for racer, seconds in found if racer is reference)
            for racer, seconds in found:
                racer.score.seconds.append(seconds)
                racer.score.ratios.append(seconds / own)
            others = [r for r, _ in found if r is not reference and not r.over(self._repeats)]

    def _turn(self, racer: Racer) -> float | None:
        """Let it take a turn; None where it broke down."""
        try:
            return racer.turn()
        except PeerError as error:
            self._leave_out(racer.score, error)
            return None

    def _leave_out(self, score: Score, error: PeerError) -> None:
        score.failure = str(error)
        say(f"  {score.peer.name} is left out: {error}")
        self._workers.pop(score.peer.name).close()


def _heats(contest: Contest, peers: Sequence[Peer]) -> list[list[Peer]]:
    """Part the peers so that the arrays of each part fit into memory together."""
    room = SHARE_OF_MEMORY * free_memory()
    reference, *others = peers
    heats: list[list[Peer]] = [[reference]]
    for peer in others:
        if sum(map(contest.bytes, [*heats[-1], peer])) > room and len(heats[-1]) > 1:
            heats.append([reference])
        heats[-1].append(peer)
    return heats


def _lacking(peer: Peer) -> str:
    missing = [module for module in peer.needs if find_spec(module) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""


def say(line: str) -> None:
    """Tell how far it is."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
