"""Who computes what follows a state: this process, or several that are asked in turn and heard in order."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from hvmodel.gears.exhaustive.engine import PLAIN, Engine, Manner
from hvmodel.gears.exhaustive.scope import Scope
from hvmodel.gears.walk import settle
from hvmodel.operations import Operation
from hvmodel.properties.verdicts import Violation

AHEAD = 3
"""Chunks that each worker has to do, so that none waits."""


@dataclass(slots=True)
class Chunk:
    """States to expand: the number of the first one, their paths (codes of operations), the faults that are spent in each, and
    whether only recovery is tried."""

    first: int
    paths: list[list[int]]
    spent: list[int]
    last: bool


@dataclass(slots=True)
class Answer:
    """What follows the states of a chunk: for each of them (operation or its code, name, spent), and the failures as (state in the
    chunk, operation, violations)."""

    steps: list[list[tuple[Operation | int, bytes, int]]] = field(default_factory=list)
    failures: list[tuple[int, Operation, list[Violation]]] = field(default_factory=list)
    transitions: int = 0
    tried: int = 0
    cpu: float = 0.0
    reach: dict[str, dict[str, int]] = field(default_factory=dict)


class WorkerDied(Exception):
    """A worker process ended; ``args[0]`` says how."""


class Worker:
    """Answers chunks with one engine. What it has answered before it does not say again."""

    def __init__(self, driver: str, scope: Scope, profile: str, manner: Manner) -> None:
        self.engine = Engine(driver, scope, profile, manner)
        self._table: list[Operation] = []
        self._codes: dict[Operation, int] = {}
        self._said: set[bytes] = set()

    def learn(self, operations: list[Operation]) -> None:
        """Operations with the next codes."""
        for operation in operations:
            self._codes[operation] = len(self._table)
            self._table.append(operation)

    def answer(self, chunk: Chunk) -> Answer:
        """Expand the states of a chunk."""
        started = time.process_time()
        found = Answer()
        table, codes, said = self._table, self._codes, self._said
        for offset, (path, spent) in enumerate(zip(chunk.paths, chunk.spent, strict=True)):
            expansion = self.engine.expand([table[code] for code in path], spent, chunk.last)
            found.transitions += expansion.transitions
            found.tried += expansion.tried
            steps: list[tuple[Operation | int, bytes, int]] = []
            for step in expansion.steps:
                if step.name not in said:
                    said.add(step.name)
                    steps.append((codes.get(step.operation, step.operation), step.name, step.spent))
            found.steps.append(steps)
            found.failures += [(offset, failure.operation, failure.violations) for failure in expansion.failures]
        found.reach = self.engine.take_reach()
        found.cpu = time.process_time() - started
        return found


def _serve(pipe: Connection, *arguments: Any) -> None:
    """A worker process. A thread of its own reads what is asked, so that neither side waits for the other to read."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    worker = Worker(*arguments)
    settle()
    asked: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                asked.put(pipe.recv())
        except (EOFError, OSError):
            asked.put(None)

    threading.Thread(target=listen, daemon=True).start()
    try:
        while (question := asked.get()) is not None:
            operations, chunk = question
            worker.learn(operations)
            pipe.send(worker.answer(chunk))
    except (BrokenPipeError, OSError):
        return


@dataclass(slots=True)
class _Member:
    process: Any
    pipe: Connection
    known: int = 0
    """How many operations of the table it has been told."""
    asked: deque[int] = field(default_factory=deque)


class Crew:
    """``jobs`` workers for one part of a scope under one profile; with one job everything is done in this process."""

    def __init__(self, jobs: int, driver: str, scope: Scope, profile: str, manner: Manner = PLAIN) -> None:
        self.cpu = 0.0
        """Processor seconds of all workers."""
        arguments = (driver, scope, profile, manner)
        self._own = Worker(*arguments) if jobs == 1 else None
        self._known = 0
        self._members: list[_Member] = []
        context = multiprocessing.get_context("fork")
        for _ in range(jobs if jobs > 1 else 0):
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, *arguments), daemon=True)
            process.start()
            theirs.close()
            self._members.append(_Member(process, mine))

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.process.terminate()  # it keeps nothing that anybody needs
            member.pipe.close()
        for member in self._members:
            member.process.join()

    def ask(self, chunks: Iterator[Chunk], operations: list[Operation]) -> Iterator[tuple[Chunk, Answer]]:
        """Each chunk with its answer, in order. ``operations`` is the table of codes, which may grow meanwhile. Raises
        :class:`WorkerDied`."""
        if self._own is not None:
            for chunk in chunks:
                self._own.learn(operations[self._known :])
                self._known = len(operations)
                answer = self._own.answer(chunk)
                self.cpu += answer.cpu
                yield chunk, answer
            return
        waiting: deque[Chunk] = deque()
        answers: dict[int, Answer] = {}
        more = True
        while more or waiting:
            while more and len(waiting) < AHEAD * len(self._members) * 2:
                member = min(self._members, key=lambda one: len(one.asked))
                if len(member.asked) >= AHEAD:
                    break
                chunk = next(chunks, None)  # type: ignore[assignment]
                if chunk is None:
                    more = False
                    break
                self._send(member, chunk, operations)
                waiting.append(chunk)
            while waiting and waiting[0].first in answers:
                chunk = waiting.popleft()
                yield chunk, answers.pop(chunk.first)
            if waiting and waiting[0].first not in answers:
                self._hear(answers)

    def drop(self) -> None:
        """Wait for what is still being computed, and forget it: the search was broken off."""
        answers: dict[int, Answer] = {}
        while any(member.asked for member in self._members):
            self._hear(answers)

    def _send(self, member: _Member, chunk: Chunk, operations: list[Operation]) -> None:
        try:
            member.pipe.send((operations[member.known :], chunk))
        except (BrokenPipeError, OSError):
            raise self._died(member) from None
        member.known = len(operations)
        member.asked.append(chunk.first)

    def _hear(self, answers: dict[int, Answer]) -> None:
        pipes = {member.pipe: member for member in self._members if member.asked}
        for pipe in wait(list(pipes), timeout=1.0):
            member = pipes[pipe]  # type: ignore[index]
            try:
                answer: Answer = member.pipe.recv()
            except (EOFError, OSError):
                raise self._died(member) from None
            self.cpu += answer.cpu
            answers[member.asked.popleft()] = answer

    @staticmethod
    def _died(member: _Member) -> WorkerDied:
        member.process.join(1)
        code = member.process.exitcode
        how = signal.Signals(-code).name if code is not None and code < 0 else f"status {code}"
        return WorkerDied(f"a worker process ended with {how}")


__all__ = ["Answer", "Chunk", "Crew", "Worker", "WorkerDied"]
