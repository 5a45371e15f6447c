"""A dataset is deleted on the page after one more question, and is gone for the next visitor of the tab."""

import pytest

pytestmark = pytest.mark.browser


def test_a_dataset_is_deleted_after_one_more_question(tab, tmp_path):
    path = tmp_path / "to-be-deleted.jsonl"
    path.write_text('{"prompt": "Soon gone?", "completion": "Yes."}\n')
    tab.locator("#upload input[type=file]").set_input_files(path)
    tab.locator("#dataset").get_by_text(path.name).wait_for()
    tab.locator("#delete-dataset").click()
    tab.get_by_role("button", name="Cancel").click()
    tab.locator("#delete-dataset").click()
    tab.locator("#sure-dataset").click()
    tab.locator("#deleted-dataset .ts-good").wait_for()
    tab.reload()
    tab.locator("#datasets input").click()
    tab.locator("#datasets").get_by_text(path.name).wait_for(state="detached")
