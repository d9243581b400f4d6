"""What a front may be of: what is on record, in the words of a search."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_t2i.errors import UserError
from nas_t2i.results.fronts.objectives import objectives_of, ranked_against, sought_alike
from nas_t2i.store import Study
from tests.results.record_factory import point, signals_of, study, trial

HPS = {"metric": "hps_v2.1", "chance": None, "by_type": {}, "signature": "hps"}


def made():
    """One trial with TIFA, HPSv2 and signals on record."""
    one = trial("a", {100: 0.5})
    (first,) = one.curve
    scores = first.scores | point(100, [0.2, 0.3], **HPS).scores
    update = {"scores": scores, "signals": signals_of(0.3)}
    return one.model_copy(update={"curve": [first.model_copy(update=update)]})


def sought(*objectives: str) -> Study:
    record = study()
    search = {"trials": 2, "objectives": list(objectives)} if objectives else {"trials": 2}
    used = record.budget.model_copy(update={"data": {"search": search}})
    record = record.model_copy(update={"budget": used})
    return Study(Path("nowhere"), record, [made()], [], False)


def test_names_are_those_of_a_search_and_of_the_records() -> None:
    told = [
        str(one) for one in objectives_of(("tifa", "-heldout_loss", "hps", "-params"), [made()])
    ]
    assert told == ["tifa", "-heldout_loss", "hps_v2.1", "-params"]
    assert [one.sign for one in ranked_against(("gmacs", "latency"), [made()])] == [1, -1, -1]
    assert ranked_against(("gmacs",), [trial("a", {})]) == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tifa,-gmac", "got '-gmac'; expected some of tifa, hps_v2.1, .*did you mean '-gmacs'"),
        ("tifa,heldout_loss", "got 'heldout_loss', which seeks the worst; expected -heldout_loss"),
        ("tifa,-gmacs,-gmacs", "got '-gmacs' twice; expected each once"),
        (
            "-params,-gmacs",
            "got -params, -gmacs; expected two or more, one of them measured, as tifa, -gmacs",
        ),
        ("tifa", "got tifa; expected two or more"),
        ("image_reward,-gmacs", "got 'image_reward'; expected some of tifa"),
    ],
)
def test_what_a_front_cannot_be_of(text: str, told: str) -> None:
    with pytest.raises(UserError, match=f"--objectives: {told}"):
        objectives_of(text.split(","), [made()])


def test_studies_seek_alike_or_nothing_in_common() -> None:
    both = sought("hps", "-gmacs")
    assert sought_alike([both]) == sought_alike([both, both]) == ("hps_v2.1", "-gmacs")
    assert sought_alike([both, sought("tifa", "-gmacs")]) == sought_alike([sought()]) == ()
