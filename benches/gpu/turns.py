"""Turns that alternate: what the contestants of one row take, each beside the others in the same minute."""

import statistics
import time

from session import reason, say


def alternate(session, label, contestants):
    """Seconds each of what every contestant does, medians of turns that alternate.

    `contestants`: name to a function that readies it and gives its turn, a function of a count that gives seconds. One
    that fails is out from then on, with the reason under `failed`; the turns that it has taken count.
    """
    turns, each, failed = {}, {}, {}

    def drop(name, when, error):
        failed[name] = f"{when}{reason(error)}"
        turns.pop(name, None)
        say(f"{label}: {name}: {failed[name]}")

    for name, ready in contestants.items():
        try:
            started = time.perf_counter()
            turns[name] = ready()
            turns[name](2)  # kernels are compiled and tuned here
            warm = time.perf_counter() - started
            each[name] = turns[name](2) / 2
            say(f"{label}: {name}: ready after {warm:.1f} s, {each[name] * 1e3:.2f} ms")
        except Exception as error:
            drop(name, "", error)
            session.free_memory()
    times = {name: [] for name in turns}
    rounds, budget = session.options.rounds, session.options.turn
    for at in range(rounds):
        names = list(turns)
        for name in turned(names, at):
            try:
                count = counted(each[name], budget)
                times[name].append(turns[name](count) / count)
            except Exception as error:
                drop(name, f"out after {len(times[name])} of {rounds} turns: ", error)
                session.free_memory()
    return {
        "seconds": {name: statistics.median(values) for name, values in times.items() if values},
        "turns": {name: len(values) for name, values in times.items() if values},
        "turn_seconds": budget,
        "failed": failed,
    }


def turned(names, by):
    """Another begins each round."""
    by %= max(1, len(names))
    return names[by:] + names[:by]


def counted(seconds_each, budget):
    """How many are measured in a turn, so that it takes about `budget` seconds."""
    return int(min(2000, max(2, budget / max(seconds_each, 1e-6))))
