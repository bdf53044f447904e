"""The named profiles, the words that findings print about answers, and the README against policies.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hvmodel.hypervisor
from hvmodel.hypervisor import DEFAULT, IN_NULL, PROFILES, QUESTIONS, Device, Hypervisor, abi
from hvmodel.hypervisor.console import Console
from hvmodel.hypervisor.policies import describe, differences, status_of

A = abi.device_id(abi.HV_DEVICE_TYPE_PCI, 8)
NULL_ID = 0xFFFFFFFF


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_are_honest_and_build(name: str) -> None:
    """No profile uses an adversarial answer, every answer is a known one, and a world of it can be made and used."""
    chosen = PROFILES[name]
    for field, question in QUESTIONS.items():
        assert getattr(chosen.policies, field) in question.alternatives
        assert getattr(chosen.policies, field) not in question.adversarial
    hv = Hypervisor(
        chosen.policies,
        devices=[Device(A)],
        l1vh=chosen.l1vh,
        capabilities=chosen.capabilities,
        root_pool=chosen.root_pool,
        domain_limit=chosen.domain_limit,
    )
    console = Console(hv)
    console.deposit(range(100, 400))
    statuses = [console.create(ident).status for ident in (1, 2, 3)]
    assert statuses == ([6] * 3 if chosen.l1vh else [0, 0, 0x38 if chosen.domain_limit == 2 else 0])
    assert console.attach(A, NULL_ID).status == (6 if chosen.l1vh else 0)
    assert (hv.place(A) == IN_NULL) != chosen.l1vh
    hv.check()


def test_words_about_answers() -> None:
    """status_of, differences and describe: what findings print."""
    assert (status_of("0x58"), status_of("move")) == (0x58, None)
    assert differences(PROFILES["old-root"].policies) == {"attach_elsewhere": "0x58"}
    assert not differences(DEFAULT)
    assert describe("detach_leaves", "none") == "detach_leaves=none (A4: where a detached device is)"


def test_the_readme_has_every_question() -> None:
    """hypervisor/README.md lists each question by id with its field and all alternatives, each profile."""
    text = (Path(hvmodel.hypervisor.__file__).parent / "README.md").read_text()
    table = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    for name, question in QUESTIONS.items():
        row = table[question.id]
        assert f"{question.text} (`{name}`)" in row
        listed = re.findall(r"`([^`]+)`", row.split(" | ")[2])
        assert tuple(listed) == question.alternatives
        assert row.split(" | ")[2].count("(adversarial)") == len(question.adversarial)
    for name, profile in PROFILES.items():
        assert table[name] == f"| {name} | {profile.summary} |"
    assert not re.search(r"(?<![\w.])/(work|tmp|home|root)\b|\.\./", text)
