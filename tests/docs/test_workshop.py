"""What runs the pages is itself tested: whatever can be wrong with a block, it is noticed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest

from tests.docs.blocks import ROOT, Block, blocks_of
from tests.docs.workshop import Workshop

PINS = (ROOT / ".ci" / "docs-requirements.txt").read_text().splitlines()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """No page: the blocks are those of the tests."""
    empty = tmp_path / "page.md"
    empty.touch()
    return empty


def block(kind: str, text: str, **fields: str) -> Block:
    return Block("page.md", 1, kind, dedent(text), **fields)


FAILING_DAG = """
    from airflow.sdk import DAG
    from airflow_provider_diffio.operators import DiffioRestoreOperator

    with DAG("failing"):
        DiffioRestoreOperator(task_id="restore", source="/data/recordings/{name}", path="out.mp3")
"""
NGINX = """
limit_req_zone $binary_remote_addr zone=webhooks:1m rate=20r/s;

server {{
    listen 8081;
    location /diffio/webhooks/ {{
        proxy_pass http://127.0.0.1:8080;
        client_max_body_size {size};
        limit_req zone={zone} burst=100{end}
    }}
}}
"""


@pytest.mark.parametrize(
    ("kind", "text", "because"),
    [
        ("", "anything", "nobody runs"),
        ("console", "$ ls", "nobody runs"),
        ("python", "undefined", "is not defined"),
        (
            "python",
            "from airflow_provider_diffio.hooks import DiffioHook\nDiffioHook().listProjects()",
            "has no attribute 'listProjects'",
        ),
        ("python", FAILING_DAG.format(name="missing.wav"), r"'restore\[-1\]': 'failed'"),
        ("python", "from airflow_provider_diffio.no import DAG\nDAG('x')", "No module named"),
        ("python", "DAG = str\nDAG('this makes none')", "it has no DAG"),
        ("python", "def test_it():\n    assert False", "assert False"),
        ("bash", "false", "ended with 1"),
        ("bash", "false | true", "ended with 1"),
        ("bash", "no-such-command", "command not found"),
        ("bash", "pip install airflow-provider-diffio[gold]", "no extra gold"),
        ("bash", "pip install airflow-provider-difio", "who is airflow-provider-difio"),
        ("bash", "make no-such-target", "No rule to make target"),
        ("bash", "airflow no-such-command", "ended with 2"),
        ("bash", "airflow connections test nobody", "connections is disabled|ended with 1"),
        ("bash", "airflow dags test nobody", "nobody"),
        ("bash", "curl -sf http://127.0.0.1:8788/sandbox/nowhere", "ended with 22"),
        (
            "bash",
            'curl -sf -X POST http://127.0.0.1:8788/sandbox/faults -d \'{"kind": "none"}\'',
            "ended with 22",
        ),
        ("bash", "python -m airflow_provider_diffio.sandbox --no-such-option", "unrecognized arguments"),
        ("bash", "export AIRFLOW_CONN_DIFFIO_DEFAULT='diffio://'", "no API key"),
        ("bash", 'export AIRFLOW_CONN_DIFFIO_DEFAULT=\'{"conn_type": "diffio"\'', "Expecting ',' delimiter"),
        ("bash", "export AIRFLOW_CONN_DIFFIO_DEFAULT='diffio://:key@/?modle=x'", "has no modle"),
        ("bash", "export AIRFLOW__CORE__NO_SUCH_OPTION=1", "no option 'no_such_option'"),
        ("text", "nobody said this", "did not write 'nobody said this'"),
        ("text", "", "it says nothing"),
        ("json", "{", "Expecting property name"),
        ("json", '{"generation_id": "gen_1"}', "no task of this page returned"),
        ("json", '{"conn_type": "diffio", "extra": {}}', "no API key"),
        ("json", '{"conn_type": "diffio", "password": "key", "extra": {"timeuot": 5}}', "has no timeuot"),
        ("ini", "[core]\nno_such_option = 1", "no option 'no_such_option'"),
        ("ini", "wake_up = True", "no section headers"),
        ("yaml", "a: [b", "parsing a flow sequence"),
        ("yaml", "environment:\n  AIRFLOW__CORE__NO_SUCH_OPTION: 1", "no option 'no_such_option'"),
        ("yaml", "env:\n  - name: AIRFLOW_CONN_DIFFIO_DEFAULT\n    value: diffio://", "no API key"),
        ("dockerfile", "FROM apache/airflow:1.10.0", "1.10.0 is not tested"),
        (
            "dockerfile",
            "FROM apache/airflow:3.3.2\nRUN pip install airflow-provider-diffio[gold]",
            "no extra gold",
        ),
        ("dockerfile", "FROM apache/airflow:3.3.2\nCOPY . /opt", "nobody runs COPY"),
        ("nginx", NGINX.format(size="1k", zone="webhooks", end=";"), "receiver takes 262144 bytes"),
        ("nginx", NGINX.format(size="256k", zone="other", end=";"), "zone that is another"),
        ("nginx", NGINX.format(size="256k", zone="webhooks", end=""), "no file for nginx that is known"),
    ],
)
def test_a_wrong_block_is_noticed(workshop: Workshop, kind: str, text: str, because: str) -> None:
    with pytest.raises((Exception, SystemExit), match=because):
        workshop.run(block(kind, text))


def test_right_ones_are_not(workshop: Workshop) -> None:
    for right in (
        block("nginx", NGINX.format(size="256k", zone="webhooks", end=";")),
        block("python", FAILING_DAG.format(name="interview.wav")),
        block("json", '{"conn_type": "diffio", "password": "key", "extra": {"timeout": 5}}'),
        block("bash", "pip install airflow-provider-diffio[webhooks]\necho one two three"),
        block("text", "one ... three"),
    ):
        workshop.run(right)


def test_what_a_block_leaves_is_there_in_the_next(workshop: Workshop) -> None:
    workshop.run(block("python", "answer = 42"))
    workshop.run(block("python", "assert answer == 42"))
    workshop.run(block("bash", "export AIRFLOW_CONN_OTHER='diffio://:key@/?timeout=7'"))
    workshop.run(
        block(
            "python",
            """
            from airflow_provider_diffio.hooks import DiffioHook
            assert DiffioHook("other").config.settings.timeout == 7
            """,
        )
    )


def test_what_is_said_to_need_a_newer_airflow_must_not_work_here(workshop: Workshop) -> None:
    workshop.run(block("python", "undefined", needs="99"))
    with pytest.raises(AssertionError, match="said to need Airflow 99"):
        workshop.run(block("python", "fine = True", needs="99"))


def test_a_command_that_never_ends_is_ended(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.workshop.PATIENCE", 0.2)
    with pytest.raises(AssertionError, match="ended with -9"):
        workshop.run(block("bash", "tail -f /dev/null"))


def test_output_is_expected_in_its_order(workshop: Workshop) -> None:
    workshop.run(block("bash", "echo one; echo two"))
    workshop.run(block("text", "one\ntwo"))
    with pytest.raises(AssertionError, match="did not write"):
        workshop.run(block("text", "two\none"))


class TestBlocks:
    def test_each_is_found_with_what_is_said_about_it(self) -> None:
        text = """
            ```python title="dags/a.py"
            one
            ```
            1. In a list:

                ~~~bash
                two
                ```
                ~~~

            <!-- Airflow 3.3 -->

            ````json
            ```
            ````
            <!-- anything -->
            ```
            ```
        """
        found = list(blocks_of(dedent(text), "page.md"))
        assert [(block.kind, block.title, block.needs) for block in found] == [
            ("python", "dags/a.py", ""),
            ("bash", "", ""),
            ("json", "", "3.3"),
            ("", "", ""),
        ]
        assert [block.text for block in found] == ["one\n", "two\n```\n", "```\n", "\n"]
        assert found[0].place == "page.md:2"

    def test_a_file_can_be_shown(self) -> None:
        text = "    ```text\n    before\n    --8<--\n    .ci/docs-requirements.txt\n    --8<--\n    ```\n"
        (found,) = blocks_of(text, "page.md")
        assert found.text.splitlines() == ["before", *PINS]

    def test_one_that_is_never_closed_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="the block is never closed"):
            list(blocks_of("```python\nx", "page.md"))

    def test_a_remark_that_means_nothing_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="Airflow three"):
            list(blocks_of("<!-- Airflow three -->\n```python\n```", "page.md"))

    def test_what_looks_like_code_is_in_a_block(self) -> None:
        """Indented code would be shown and never run."""
        for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
            text = re.sub(r"^( *)(```|~~~).*?^\1\2", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
            assert not re.search(r"<(pre|code)\b", text), path


def test_the_builder_of_the_site_is_pinned() -> None:
    pinned = {re.split(r"[=;\s]", line)[0] for line in PINS if not line.startswith("#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[\[<>=~!; ]", text)[0] for text in project["optional-dependencies"]["docs"]}
    assert wanted - pinned == set(), "run .ci/docs-venv --pin"
    for line in PINS:
        assert re.fullmatch(r"#.*|[a-z0-9-]+==[0-9][\w.!+-]*( ; [^/@:]+)?", line), line
