"""What the page says of a job that ended."""

from __future__ import annotations

from workbench.jobs.job import JobRecord
from workbench.page.report import end_in_words


def test_a_measurement_that_was_stopped_is_said_to_go_on_from_what_it_finished() -> (
    None
):
    said = end_in_words(JobRecord(1, "measure", "cancelled", {}, {}, {}), None)
    assert "finished stages are kept: Measure again resumes from there" in said
