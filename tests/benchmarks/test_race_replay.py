"""Replays of a race on a study of which everything was trained."""

from pathlib import Path

MEASURED = Path(__file__).parents[2] / "results/measured"


def test_a_race_with_enough_compute_picks_the_best() -> None:
    import race_replay

    budget, whole = race_replay.load(MEASURED / "sdxl-exhaustive")
    assert len(whole) == 33 and all(len(recorded.seeds) == 2 for recorded in whole)
    scores = {recorded.name: recorded.final("tifa") for recorded in whole}
    some = sorted(whole, key=lambda recorded: -scores[recorded.name])[::8]
    found = race_replay.race(budget, some, 5.0, seed=0)
    assert some[found.picked].name == "unet-C384-m1.2.4-TD0.2.2"
