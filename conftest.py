"""pytest options and Hypothesis profiles.

``--driver`` and ``--profile`` choose what the machines drive, ``--replay TRACE`` replays traces instead of running tests,
``--findings DIR`` is where failing machines leave their traces. Each Hypothesis profile states everything that matters itself: one
that is registered under CI would otherwise inherit a frozen, database-less default.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import (
    DirectoryBasedExampleDatabase,
    ExampleDatabase,
    GitHubArtifactDatabase,
    MultiplexedDatabase,
    ReadOnlyDatabase,
)

_LOCAL = DirectoryBasedExampleDatabase(Path(__file__).parent / ".hypothesis" / "examples")
_ALL = list(HealthCheck)


def _with_ci(local: ExampleDatabase, shared: str | None) -> ExampleDatabase:
    """The local examples and, where ``HVMODEL_EXAMPLES=OWNER/REPOSITORY`` names a GitHub project, those that its nightly job
    uploaded (artefact ``hypothesis-example-db``; needs ``GITHUB_TOKEN``), as ``GitHubArtifactDatabase`` advises."""
    if not shared:
        return local
    owner, slash, repository = shared.partition("/")
    if not (owner and slash and repository):
        raise pytest.UsageError(f"HVMODEL_EXAMPLES: must be OWNER/REPOSITORY, not {shared!r}")
    return MultiplexedDatabase(local, ReadOnlyDatabase(GitHubArtifactDatabase(owner, repository, "hypothesis-example-db")))


settings.register_profile(
    "dev",
    derandomize=False,
    database=_with_ci(_LOCAL, os.environ.get("HVMODEL_EXAMPLES")),
    deadline=None,
    max_examples=60,
    stateful_step_count=40,
    suppress_health_check=_ALL,
)
settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    stateful_step_count=40,
    suppress_health_check=_ALL,
)
settings.register_profile(
    "nightly",
    derandomize=False,
    database=_LOCAL,
    deadline=None,
    max_examples=5000,
    stateful_step_count=80,
    suppress_health_check=_ALL,
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hvmodel")
    group.addoption(
        "--driver",
        default=None,
        help="run only the machines, on this driver",
    )
    group.addoption("--profile", default="default", help="hypervisor profile of the machines (default: default)")
    group.addoption("--replay", action="append", default=[], metavar="TRACE", help="replay this trace instead of running the tests")
    group.addoption("--findings", default="findings/pytest", help="where failing machines leave traces")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "chosen_driver: runs only with --driver, and then alone")
    from hvmodel.drivers import REGISTRY, no_such_driver
    from hvmodel.rules.worlds import PROFILE_NAMES

    driver, profile = config.getoption("--driver"), config.getoption("--profile")
    if driver is not None and driver not in REGISTRY:
        raise pytest.UsageError(f"--driver: {no_such_driver(driver)}")
    if profile not in PROFILE_NAMES:
        raise pytest.UsageError(f"--profile: no profile is called {profile!r} (known: {', '.join(PROFILE_NAMES)})")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "replayed_trace" in metafunc.fixturenames:
        metafunc.parametrize("replayed_trace", metafunc.config.getoption("--replay"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    replaying, chosen = bool(config.getoption("--replay")), bool(config.getoption("--driver"))
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        is_replay = "replayed_trace" in getattr(item, "fixturenames", ())
        is_chosen = item.get_closest_marker("chosen_driver") is not None
        wanted = is_replay if replaying else not is_replay and is_chosen == chosen
        (kept if wanted else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept
