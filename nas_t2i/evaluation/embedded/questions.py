"""The questions about scenes of the embedded data set, in TIFA's layout and element types.

Hu et al. 2023, arXiv 2303.11897: ``{id, caption, question, choices, answer, element_type,
element}``.
"""

from __future__ import annotations

from nas_t2i.data.embedded.shapes import (
    COLORS,
    NUMBERS,
    PLACES,
    PLURALS,
    RELATIONS,
    SHAPES,
    Scenes,
    captions,
)
from nas_t2i.evaluation.tifa.types import Question


def questions_about(scenes: Scenes, ids: list[str]) -> list[Question]:
    """TIFA questions of the scenes, grouped by scene.

    For each scene one question whether an object is there (yes) and one about an object that is
    not (no), so that a constant answer scores one half. The absent object has one attribute of a
    present one: with two groups the colour of one and the shape of the other, else another shape
    or another colour. Counting asks "one" to "four" for one group, "one" or "two" for either of
    two groups; answers are uniform over the choices by construction.
    """
    rows: list[Question] = []
    texts = captions(scenes)
    for n, (name, text) in enumerate(zip(ids, texts, strict=True)):
        forms, colors = scenes.shape[n].tolist(), scenes.color[n].tolist()
        counts, relation = scenes.count[n].tolist(), int(scenes.relation[n])
        groups = [0, 1] if counts[1] else [0]

        def ask(
            kind: str,
            question: str,
            choices: tuple[str, ...],
            answer: str,
            element: str,
            name: str = name,
            text: str = text,
        ) -> None:
            rows.append(
                Question(
                    id=name,
                    caption=text,
                    question=question,
                    choices=list(choices),
                    answer=answer,
                    element_type=kind,
                    element=element,
                )
            )

        asked = n % len(groups)
        present = f"{COLORS[colors[asked]]} {SHAPES[forms[asked]]}"
        if counts[1]:
            absent = f"{COLORS[colors[asked]]} {SHAPES[forms[1 - asked]]}"
        elif n % 2:
            absent = f"{COLORS[colors[0]]} {SHAPES[forms[1]]}"
        else:
            absent = f"{COLORS[colors[1]]} {SHAPES[forms[0]]}"
        ask("object", f"Is there a {present}?", ("yes", "no"), "yes", present)
        ask("object", f"Is there a {absent}?", ("yes", "no"), "no", absent)
        for g in groups:
            shape, color = SHAPES[forms[g]], COLORS[colors[g]]
            nouns = shape if counts[g] == 1 else PLURALS[forms[g]]
            be = "is" if counts[g] == 1 else "are"
            ask("color", f"What color {be} the {nouns}?", COLORS, color, color)
            thing = "object" if counts[g] == 1 else "objects"
            ask("shape", f"What shape {be} the {color} {thing}?", SHAPES, shape, shape)
            if sum(counts) > 2 or len(groups) == 1:
                choices = NUMBERS if len(groups) == 1 else NUMBERS[:2]
                number = NUMBERS[counts[g] - 1]
                ask("counting", f"How many {PLURALS[forms[g]]} are there?", choices, number, number)
        if counts[1]:
            first = SHAPES[forms[0]] if counts[0] == 1 else PLURALS[forms[0]]
            second = SHAPES[forms[1]] if counts[1] == 1 else PLURALS[forms[1]]
            be = "is" if counts[0] == 1 else "are"
            ask(
                "spatial",
                f"Where {be} the {first}, seen from the {second}?",
                PLACES,
                PLACES[relation],
                RELATIONS[relation],
            )
    return rows
