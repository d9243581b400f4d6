"""The questions about scenes of the embedded data set, in TIFA's layout and element types.

Hu et al. 2023, arXiv 2303.11897: ``{id, caption, question, choices, answer, element_type,
element}``.
"""

from __future__ import annotations

from nas_t2i.data.embedded.shapes import (
    COLORS,
    GROUPS,
    NUMBERS,
    PLACES,
    PLURALS,
    RELATIONS,
    SHAPES,
    Scenes,
    captions,
    names_left_out,
)
from nas_t2i.evaluation.tifa.types import Question

UNSEEN = "unseen pair"  # group of the questions about a shape in a colour never trained on


def questions_about(scenes: Scenes, ids: list[str], *, left_out: int = 0) -> list[Question]:
    """TIFA questions of the scenes, grouped by scene.

    For each scene one question whether an object is there (yes) and one about an object that is
    not (no), so that a constant answer scores one half. The absent object has one attribute of a
    present one: with several groups the colour of one and the shape of another, else another shape
    or another colour. Counting asks "one" to "four" for one group, "one" or "two" for either of
    two groups, and nothing where all are single by construction of the scene (two objects, three);
    answers are uniform over the choices.

    Questions whose answer is an attribute of a group of one of the first `left_out` pairs that
    training leaves out are in the group `UNSEEN`.
    """
    unseen = names_left_out(scenes, left_out)
    rows: list[Question] = []
    texts = captions(scenes)
    for n, (name, text) in enumerate(zip(ids, texts, strict=True)):
        forms, colors = scenes.shape[n].tolist(), scenes.color[n].tolist()
        counts = scenes.count[n].tolist()
        groups = [group for group in range(GROUPS) if counts[group]]

        def ask(
            kind: str,
            question: str,
            choices: tuple[str, ...],
            answer: str,
            element: str,
            about: int | None = None,
            name: str = name,
            text: str = text,
            row: int = n,
        ) -> None:
            asking = Question(
                id=name,
                caption=text,
                question=question,
                choices=list(choices),
                answer=answer,
                element_type=kind,
                element=element,
            )
            if about is not None and unseen[row, about]:
                asking["group"] = UNSEEN
            rows.append(asking)

        asked = n % len(groups)
        present = f"{COLORS[colors[asked]]} {SHAPES[forms[asked]]}"
        if counts[1]:
            other = (asked + 1) % len(groups)
            absent = f"{COLORS[colors[asked]]} {SHAPES[forms[other]]}"
        elif n % 2:
            absent = f"{COLORS[colors[0]]} {SHAPES[forms[1]]}"
        else:
            absent = f"{COLORS[colors[1]]} {SHAPES[forms[0]]}"
        ask("object", f"Is there a {present}?", ("yes", "no"), "yes", present, asked)
        ask("object", f"Is there a {absent}?", ("yes", "no"), "no", absent)
        for g in groups:
            shape, color = SHAPES[forms[g]], COLORS[colors[g]]
            nouns = shape if counts[g] == 1 else PLURALS[forms[g]]
            be = "is" if counts[g] == 1 else "are"
            ask("color", f"What color {be} the {nouns}?", COLORS, color, color, g)
            thing = "object" if counts[g] == 1 else "objects"
            ask("shape", f"What shape {be} the {color} {thing}?", SHAPES, shape, shape, g)
            if len(groups) == 1 or (len(groups) == 2 and sum(counts) > 2):
                choices = NUMBERS if len(groups) == 1 else NUMBERS[:2]
                number = NUMBERS[counts[g] - 1]
                how_many = f"How many {PLURALS[forms[g]]} are there?"
                ask("counting", how_many, choices, number, number, g)
        relations = (scenes.relation[n], scenes.next_relation[n])
        for first, relation in zip(groups[:-1], relations, strict=False):  # fewer with two groups
            here, there = (
                SHAPES[forms[g]] if counts[g] == 1 else PLURALS[forms[g]]
                for g in (first, first + 1)
            )
            be = "is" if counts[first] == 1 else "are"
            where = f"Where {be} the {here}, seen from the {there}?"
            ask("spatial", where, PLACES, PLACES[relation], RELATIONS[relation])
    return rows
