"""``postnms suppressors`` lists the rivals of the stage."""

from postnms.suppression import SUPPRESSORS, get_suppressor


def test_suppressors_are_listed_as_they_can_be_asked_for(postnms):
    shown = postnms("suppressors")[1]
    listed = [line for line in shown.splitlines() if not line.startswith((" ", "all have"))]
    assert [line.split(":")[0] for line in listed] == list(SUPPRESSORS)
    for line in listed:
        assert get_suppressor(line) == SUPPRESSORS[line.split(":")[0]]
