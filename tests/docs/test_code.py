"""What the pages tell to type works: their blocks of code are run."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import doc_blocks
import doc_samples
import pytest

_TESTS = pathlib.Path(__file__).resolve().parents[1]
# Pages whose blocks something else runs, and hours of measuring.
_ELSEWHERE = {
    "docs/composition.md": "tests/docs/test_composition.py runs it",
    "docs/measured/performance.md": (
        "hours; the benchmarks have tests of their own"
    ),
}
# Pages that are run in a few seconds.
_FAST = ("docs/settings.md", "docs/store.md")
# The only kinds of reason for which a block is not run.
_REASON = re.compile(r"needs|install|environment|minutes|hours|costs|runs")


_RUN = [
    pytest.param(page, marks=[] if page in _FAST else [pytest.mark.slow])
    for page in doc_blocks.pages()
    if page not in _ELSEWHERE
    and any(block.is_run for block in doc_blocks.of(page))
]


@pytest.mark.parametrize("page", _RUN)
def test_the_blocks_of_a_page_run_in_order(page, tmp_path):
    doc_samples.folder_for(page, tmp_path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    done = subprocess.run(
        [sys.executable, _TESTS / "helpers" / "doc_driver.py", page],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}",
            "TFDS_DATA_DIR": str(tmp_path / "tfds"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("page", doc_blocks.pages())
def test_a_block_says_its_language(page):
    allowed = (*doc_blocks.RUN, *doc_blocks.SHOWN)
    for block in doc_blocks.of(page):
        assert block.language in allowed, f"{page}:{block.line}"


def test_a_block_that_is_not_run_says_why():
    left_out = [b for p in doc_blocks.pages() for b in doc_blocks.of(p)]
    left_out = [block for block in left_out if block.reason]
    for block in left_out:
        print(f"{block.page}:{block.line}: {block.reason}")
        assert _REASON.search(block.reason), f"{block.page}:{block.line}"
        assert block.language in doc_blocks.RUN


@pytest.mark.parametrize("page", doc_blocks.pages())
def test_a_block_that_installs_is_not_run(page):
    for block in doc_blocks.of(page):
        if page not in _ELSEWHERE:
            assert not (block.is_run and block.installs), block.line


@pytest.mark.parametrize(
    "text", ["```\n", "<!-- file: a -->\nb\n", "<!-- not run: x -->\n"]
)
def test_a_page_that_is_not_right_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.setattr(doc_blocks, "ROOT", tmp_path)
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(ValueError, match=r"page\.md"):
        doc_blocks.of("page.md")


def test_the_front_page_lists_every_program():
    told = (doc_blocks.ROOT / "docs/index.md").read_text()
    for path in (doc_blocks.ROOT / "launch").glob("*.py"):
        if 'if __name__ == "__main__":' in path.read_text():
            assert f"| `launch/{path.name}` |" in told
