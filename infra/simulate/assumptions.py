"""What the figures rest on, in sentences."""

from __future__ import annotations

from infra.simulate.mix import Mix


def assumptions(mix: Mix) -> list[str]:
    """Of this mix."""
    b = mix.behaviour
    return [
        "Users live where the world's city dwellers do (GeoNames), in their time zones. Phones are iOS and "
        "Android as in their countries (StatCounter); 3% have no device, 18% have two, 3% opted out of something.",
        f"{_share(mix.active)} are active. {_share(b.regular)} of them practise on {_share(b.regular_practises)} of "
        f"their days, the others on {_share(b.casual_practises)}; {_share(b.keeps_hour)} of practices are in their "
        "own hour, the others follow the curve of all: a small morning peak, a large one at 20:00 local.",
        "A practice is 1 to 4 lessons, two events each, and one app_opened.",
        f"Of active users a day {_share(b.abandons)} abandon a lesson and {_share(b.churns)} stop for good; of silent "
        f"ones {_share(b.returning(mix.active))} return by themselves, and {_share(b.answers)} of those who get a "
        "comeback.",
        "Silence has a heavy tail (days to the power of −1.2, 400 at most)."
        + (" It keeps that shape: for each who leaves it another becomes silent." if b.steady else ""),
        f"Who stands on rung {mix.stop_after + 1} of the ladder or higher answered none before, and is left alone."
        if 0 < mix.stop_after < len(mix.ladder)
        else "The ladder goes on to its end.",
        "Comebacks are scanned and sent when they are due, "
        + (f"over {mix.spread_minutes} minutes from the send hour on." if mix.spread_minutes else "all at once."),
        "Streak savers are due at 22:00 sharp, a zone's at one instant: they are counted as bursts, those of an hour "
        "as one, apart from the busiest second. Practice and abandoned lessons fall evenly within their hour.",
        "Every device takes what it is sent; "
        + ("users without a device get an e-mail." if mix.email else "there are no e-mails."),
        "On days when clocks are changed quiet hours may be off by an hour, and practice that is moved to the next "
        "morning counts for no daily cap. Comebacks and streak savers are exact.",
        "Dates of the gate from before the first simulated one are as large as the largest of these.",
    ]


def _share(of: float) -> str:
    return f"{100 * of:.3g}%"
