"""Agents on a slow, throttling bucket: none ends, and no event is lost."""

from __future__ import annotations

import bucket_soak
import pytest


@pytest.mark.parametrize(
    ("num_agents", "num_secs", "speed", "busy_share"),
    [
        (4, 30.0, 6.0, 0.02),
        pytest.param(12, 120.0, 4.0, 0.1, marks=pytest.mark.slow),
    ],
)
def test_no_agent_ends_and_no_event_is_lost(
    num_agents, num_secs, speed, busy_share
):
    report = bucket_soak.run(
        num_agents=num_agents,
        num_secs=num_secs,
        speed=speed,
        generation_secs=8.0,
        busy_share=busy_share,
        lost_share=0.02,
    )
    figures = report.to_json()
    assert report.ended == [], figures
    assert report.num_events == report.num_kept_events >= 2 * num_agents
    assert report.num_publications >= num_agents
    assert figures["median_append_secs"] < 1.0
    assert report.num_faults["-1"] and report.num_faults["429"]
    assert report.problems == []
