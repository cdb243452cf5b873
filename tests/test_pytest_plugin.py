"""The fixtures for pytest: what they give and leave behind, and how they come to be there."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "guides" / "testing.md"

APP = """
    import asyncio

    import pytest

    from statestore import Key, Store

    class App(Store):
        conn = Key("open")

    def boom(old, new):
        raise RuntimeError
"""

STRICT = "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"


@pytest.fixture
def outcome(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """Give what runs tests that have the plugin, be it installed here or not."""
    # Loaded once, and by its module: an installed one would be known by another name.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:statestore -p statestore._pytest_plugin")
    pytester.makeini(STRICT)
    return Outcome(pytester)


class Outcome:
    """Runs of tests, each in a module of its own that begins with `APP`."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester

    def of(self, tests: str, *options: str) -> pytest.RunResult:
        """Run *tests* in this process."""
        self._pytester.makepyfile(test_it=APP + tests)
        return self._pytester.runpytest_inprocess(*options)


def test_a_step_loop_is_given(outcome: Outcome) -> None:
    """Its tasks are ended and it is closed after the test."""
    result = outcome.of("""
    loops = []
    ended = []

    async def forever():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(True)

    def test_first(step_loop):
        loops.append(step_loop)
        step_loop.create_task(forever())
        step_loop.settle()
        assert step_loop.time() == 0

    def test_then(step_loop):
        assert step_loop is not loops[0]
        assert loops[0].is_closed()
        assert ended == [True]
    """)

    result.assert_outcomes(passed=2)


def test_stores_are_closed(outcome: Outcome) -> None:
    """What was made or adopted is closed after the test."""
    result = outcome.of("""
    made = []

    def test_first(make_store):
        made.extend([make_store(App), make_store.adopt(App())])

    def test_then():
        assert [store.is_closed for store in made] == [True, True]
    """)

    result.assert_outcomes(passed=2)


def test_who_is_left_fails_the_test(outcome: Outcome) -> None:
    """A consumer that is registered after the test is told of, without frames of the library."""
    result = outcome.of("""
    def test_it(make_store):
        make_store(App).conn.on_change(boom)
    """)

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_it*",
            "E * AssertionError: App still has consumers; end their waits, or close them:",
            "E * callbacks of conn: <open callback <function boom at *> on 'conn'>",
        ]
    )
    result.stdout.no_fnmatch_line("*def assert_no_trace*")


def test_after_a_failure_nobody_looks(outcome: Outcome) -> None:
    """A test that failed could not clean up, so only its failure is told. The next is looked at."""
    result = outcome.of("""
    made = []

    def test_fails(make_store):
        made.append(make_store(App))
        made[0].conn.on_change(boom)
        assert False

    def test_then(make_store):
        assert made[0].is_closed
        make_store(App).conn.on_change(boom)
    """)

    result.assert_outcomes(failed=1, passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_then*"])


@pytest.mark.parametrize("fixtures", ["make_store, step_loop", "step_loop, make_store"])
def test_tasks_of_the_step_loop_are_ended_first(outcome: Outcome, fixtures: str) -> None:
    """What runs on it when the test ends is not left, in whatever order they are asked for."""
    result = outcome.of(f"""
    def test_it({fixtures}):
        app = make_store(App)
        step_loop.create_task(app.conn.wait_for("closed"))
        step_loop.settle()
    """)

    result.assert_outcomes(passed=1)


def test_tasks_of_an_asynchronous_test_are_ended_first(outcome: Outcome) -> None:
    """The same with the loop that pytest-asyncio makes for a test."""
    result = outcome.of("""
    from statestore.testing import settle, traces_of

    @pytest.mark.asyncio
    async def test_it(make_store):
        app = make_store(App)
        task = asyncio.create_task(app.conn.wait_for("closed"))
        await settle(app)
        assert traces_of(app)
    """)

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    "fixtures", ["make_store, record_transitions", "record_transitions, make_store"]
)
def test_transitions_are_recorded(outcome: Outcome, fixtures: str) -> None:
    """A recording is compared in the test, and ends with it, before anybody looks what is left."""
    result = outcome.of(f"""
    from statestore.testing import traces_of

    app = App()

    def test_it({fixtures}):
        make_store.adopt(app)
        seen = record_transitions(app.conn.map(len))
        app.conn.value = "closing"
        app.conn.value = "closed"
        seen.assert_transitions([7, 6])
        assert traces_of(app)

    def test_then():
        assert traces_of(app) == []
    """)

    result.assert_outcomes(passed=2)


def test_a_difference_is_shown_without_frames_of_the_library(outcome: Outcome) -> None:
    """The traceback ends in the test, and the two lists stand below it."""
    result = outcome.of("""
    def test_it(make_store, record_transitions):
        app = make_store(App)
        seen = record_transitions(app.conn)
        app.conn.value = "closed"
        seen.assert_transitions(["closing"])
    """)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '>* seen.assert_transitions([[]"closing"[]])',
            "E * AssertionError: transition 1 of conn is not the expected one",
            "E * > 'closing'  * 'closed'   revision 1",
            "*test_it.py:*: AssertionError",
        ]
    )
    result.stdout.no_fnmatch_line("*_recording.py*")


def test_the_fixtures_are_told_of(outcome: Outcome) -> None:
    """`pytest --fixtures` gives their first lines."""
    result = outcome.of("", "--fixtures")

    for fixture in ("make_store", "record_transitions", "step_loop"):
        result.stdout.fnmatch_lines([f"{fixture} -- *_pytest_plugin.py:*", "    [A-Z]*."])


def test_the_tests_of_the_guide_pass(outcome: Outcome, pytester: pytest.Pytester) -> None:
    """The blocks of the guide that are tests are run as such, with the program that they test."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    tests = [block for block in blocks if "def test_" in block]
    imports = "from statestore.testing import settle\n"
    pytester.makepyfile(test_guide="\n".join([blocks[0], imports, *tests]))

    pytester.runpytest_inprocess().assert_outcomes(passed=2)


# How it comes to be there


def test_the_entry_point_is_declared() -> None:
    """The package offers the plugin to pytest, under its own name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = project["entry-points"]["pytest11"]
    (entry,) = (
        importlib.metadata.EntryPoint(name, value, "pytest11") for name, value in declared.items()
    )

    assert "statestore" == entry.name
    assert "statestore._pytest_plugin" == entry.load().__name__


@pytest.fixture
def installed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Have the package found as one that is installed, with its entry point."""
    info = pytester.mkdir("statestore-0.dist-info")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: statestore\nVersion: 0\n", "utf-8")
    (info / "entry_points.txt").write_text(
        "[pytest11]\nstatestore = statestore._pytest_plugin\n", "utf-8"
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini(STRICT)
    return pytester


USES = "def test_it(make_store, step_loop, record_transitions): pass"


def test_it_is_there_when_the_package_is_installed(installed: pytest.Pytester) -> None:
    """Nobody has to name it, and naming it too does no harm."""
    installed.makepyfile(USES)

    installed.runpytest_subprocess().assert_outcomes(passed=1)
    installed.runpytest_subprocess("-p", "statestore").assert_outcomes(passed=1)


def test_it_can_be_left_out(installed: pytest.Pytester) -> None:
    """`-p no:statestore` takes the fixtures away."""
    installed.makepyfile(USES)

    result = installed.runpytest_subprocess("-p", "no:statestore")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'make_store' not found"])


def test_nothing_is_imported_for_those_who_use_no_fixture(installed: pytest.Pytester) -> None:
    """The helpers are imported by the first test that asks for one."""
    installed.makepyfile(
        """
        import sys

        def test_before():
            assert "statestore._pytest_plugin" in sys.modules
            assert "statestore.testing" not in sys.modules

        def test_with(make_store):
            assert "statestore.testing" in sys.modules
        """
    )

    installed.runpytest_subprocess().assert_outcomes(passed=2)


def test_it_is_registered_here_at_most_once(pytestconfig: pytest.Config) -> None:
    """These tests run with the plugin if it is installed, and do not need it."""
    plugin = sys.modules.get("statestore._pytest_plugin")
    found = [
        name
        for name, module in pytestconfig.pluginmanager.list_name_plugin()
        if module is not None and module is plugin
    ]

    assert found in ([], ["statestore"])
